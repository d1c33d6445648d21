"""What happens to a response's head between an exchange and its stream."""

from __future__ import annotations

from typing import Any

import pytest

from djserve.conf.environment import read_environment
from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.instrumentation.notes import RESPONSE
from djserve.server.streams import AddedFields, NotedStream


class Stream:
    """Keeps the fields that it is given."""

    is_writable = True

    def __init__(self) -> None:
        self.given: list[Any] = []

    def send_response(self, status: int, headers: Any, data: bytes, more: bool) -> None:
        self.given.append(headers)

    def upgrade(self, headers: Any, receiver: object) -> str:
        self.given.append(headers)
        return "transport"


ADDED = AddedFields(["X-Frame-Options: DENY", "Link:</a>, </b>", "X-Empty:"])


def test_fields_are_added_to_responses_and_upgrades() -> None:
    inner = Stream()
    stream: Any = ADDED.around(inner)  # type: ignore[arg-type]
    stream.send_response(200, [(b"a", b"b")], b"", False)
    transport = stream.upgrade([], object())

    added = [(b"x-frame-options", b"DENY"), (b"link", b"</a>, </b>"), (b"x-empty", b"")]
    assert inner.given == [[(b"a", b"b"), *added], added]
    assert transport == "transport"
    assert stream.is_writable


def test_fields_are_noted_unless_the_stream_refuses_them() -> None:
    class Refusing(Stream):
        def send_response(self, *args: Any) -> None:
            raise ValueError("no such field")

    noted: dict[str, Any] = {}
    refused: dict[str, Any] = {}
    headers = [(b"a", b"b")]
    inner = Stream()
    stream: Any = NotedStream(inner, noted)  # type: ignore[arg-type]
    stream.send_response(200, iter(headers), b"", False)
    with pytest.raises(ValueError, match="no such field"):
        NotedStream(Refusing(), refused).send_response(200, headers, b"", False)  # type: ignore[arg-type]

    assert noted == {RESPONSE: headers}
    assert inner.given == [headers]
    assert refused == {}
    assert stream.is_writable


@pytest.mark.parametrize("name", [b"x-frame-options", b"X-Frame-Options"])
def test_applications_own_field_wins(name: bytes) -> None:
    headers = ADDED.add([(name, b"SAMEORIGIN"), (name, b"x")])

    assert [value for key, value in headers if key.lower() == name.lower()] == [
        b"SAMEORIGIN",
        b"x",
    ]


def test_given_fields_are_not_changed() -> None:
    headers = [(b"a", b"b")]
    ADDED.add(headers)

    assert headers == [(b"a", b"b")]


@pytest.mark.parametrize(
    "text",
    [
        "X-A",
        ": a",
        "X A: b",
        "X-A : b",
        "X-A: b\r\nX-B: c",
        "X-A: é",
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Connection: close",
        "Upgrade: h2c",
    ],
)
def test_wrong_field_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HEADERS"):
        parse({"HEADERS": [text]})


def test_mapping_is_taken_in_settings() -> None:
    config = parse({"HEADERS": {"X-A": "1, 2", "X-B": "3"}})

    assert config.http.headers == ("X-A: 1, 2", "X-B: 3")


def test_variable_has_a_field_a_line() -> None:
    given = read_environment({"DJSERVE_HEADERS": "X-A: 1, 2\nX-B: 3\n"})

    assert parse(given).http.headers == ("X-A: 1, 2", "X-B: 3")
