from __future__ import annotations

import logging
from contextvars import copy_context

import pytest

from djserve.instrumentation.request_id import (
    RequestIDFilter,
    current_request_id,
    find_request_id,
    name_request,
)
from djserve.interfaces import Headers

HOST = (b"host", b"example.com")


def make_log_record() -> logging.LogRecord:
    return logging.LogRecord("name", logging.INFO, "", 0, "text", None, None)


def test_request_without_an_id_gets_one() -> None:
    headers: Headers = [HOST]
    name_request(headers)

    assert headers[0] == HOST
    assert [name for name, _ in headers] == [b"host", b"x-request-id"]
    assert find_request_id(headers) == headers[1][1].decode()


def test_each_request_gets_another_id() -> None:
    names = set()
    for _ in range(3):
        headers: Headers = []
        name_request(headers)
        names.add(find_request_id(headers))

    assert len(names) == 3


@pytest.mark.parametrize("value", [b"a", b"0Az._:+/=-", b"x" * 128])
def test_plain_id_of_the_client_is_kept(value: bytes) -> None:
    headers = [(b"x-request-id", value), HOST]
    name_request(headers)

    assert headers == [(b"x-request-id", value), HOST]


@pytest.mark.parametrize(
    "values",
    [[b""], [b"x" * 129], [b"two words"], [b'"'], [b"a\n"], [b"\xff"], [b"a", b"b"]],
    ids=["empty", "long", "space", "quote", "line-end", "latin-1", "two"],
)
def test_id_that_is_not_plain_is_replaced(values: list[bytes]) -> None:
    headers = [HOST, *((b"x-request-id", value) for value in values)]
    name_request(headers)

    assert len(headers) == 2
    assert headers[1][1] not in values
    assert find_request_id(headers)


def test_id_that_is_not_plain_is_not_found() -> None:
    assert find_request_id([HOST, (b"x-request-id", b"a b")]) == ""


def test_filter_tells_the_request_of_its_context() -> None:
    record = make_log_record()

    def serve() -> None:
        current_request_id.set("ab-1")
        assert RequestIDFilter().filter(record)

    copy_context().run(serve)
    assert record.request_id == "ab-1"  # type: ignore[attr-defined]


def test_filter_tells_a_dash_outside_of_requests() -> None:
    record = make_log_record()
    copy_context().run(lambda: RequestIDFilter().filter(record))

    assert logging.Formatter("%(request_id)s").format(record) == "-"
