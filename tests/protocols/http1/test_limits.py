from __future__ import annotations

import pytest

from djserve.conf.schema import HTTPConfig
from djserve.errors import ProtocolError
from djserve.protocols.http1.limits import HeadLimits, skip_empty_lines

LIMITS = HeadLimits(HTTPConfig(request_line_limit=64, header_size_limit=256))


def status_of(data: bytes) -> int:
    with pytest.raises(ProtocolError) as caught:
        LIMITS.check_partial(data)
    return caught.value.status


def test_head_within_the_limits_is_fine() -> None:
    LIMITS.check_partial(b"GET / HTTP/1.1\r\nHost: a\r\n")
    LIMITS.check(b"G" * 64 + b"\r\n" + b"h" * 256 + b"\r\n")


def test_line_one_byte_over_the_limit_is_refused_with_414() -> None:
    assert status_of(b"G" * 65) == 414
    assert status_of(b"G" * 65 + b"\r\n") == 414


def test_cr_at_the_end_of_a_full_line_is_not_counted() -> None:
    LIMITS.check_partial(b"G" * 64 + b"\r")


def test_fields_over_the_limit_are_refused_with_431() -> None:
    assert status_of(b"GET / HTTP/1.1\r\n" + b"h" * 259) == 431


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b" GET / HTTP/1.1", b"GET / HTTP/1.1\n", b"\x00\x00"],
    ids=["tls", "leading blank", "bare LF", "NUL"],
)
def test_what_cannot_become_a_request_is_refused_at_once(data: bytes) -> None:
    assert status_of(data) == 400


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"\r\nGET", b"GET"),
        (b"\r\n\r\n\r\nGET", b"GET"),
        (b"\r\n\r", b"\r"),
        (b"\r\n", b""),
        (b"\r", b"\r"),
    ],
)
def test_empty_lines_before_a_request_are_skipped(data: bytes, rest: bytes) -> None:
    assert skip_empty_lines(data) == rest


@pytest.mark.parametrize("data", [b"\rGET", b"\r\rGET", b"\r\n\nGET", b"\r\n\rGET"])
def test_half_an_empty_line_before_a_request_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        skip_empty_lines(data)
