"""A filter that changes nothing is not noticed, on either side."""

from __future__ import annotations

from typing import Any

import pytest

from djserve.interfaces import RequestHead
from djserve.responses.filter import ResponseFilter


class Recorder:
    """Stands on either side, and keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    is_running = True
    is_writable = False
    held_size = 7
    extensions: Any = {"http.response.push": {}}

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> object:
            self.calls.append((name, *args))
            return self

        return call


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("start", ()),
        ("data_received", (b"a",)),
        ("eof_received", ()),
        ("pause_writing", ()),
        ("resume_writing", ()),
        ("connection_lost", (None,)),
        ("tick", (1.0,)),
        ("drain", ()),
    ],
)
def test_what_comes_up_reaches_the_exchange(name: str, args: tuple[Any, ...]) -> None:
    stream, exchange = Recorder(), Recorder()
    passing: Any = ResponseFilter(stream, None).connect(exchange)
    getattr(passing, name)(*args)

    assert exchange.calls == [(name, *args)]
    assert stream.calls == []
    assert passing.is_running
    assert passing.held_size == 7


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("send_informational", (103, [])),
        ("send_response", (200, [], b"a", True)),
        ("send_data", (b"a", False)),
        ("send_trailers", ([],)),
        ("push", ("/a", [])),
        ("upgrade", ([], None)),
        ("request_content", ()),
        ("pause_reading", ()),
        ("resume_reading", ()),
        ("abort", ()),
    ],
)
def test_what_goes_down_reaches_the_stream(name: str, args: tuple[Any, ...]) -> None:
    stream, exchange = Recorder(), Recorder()
    passing: Any = ResponseFilter(stream, None).connect(exchange)
    getattr(passing, name)(*args)

    assert stream.calls == [(name, *args)]
    assert exchange.calls == []
    assert not passing.is_writable
    assert passing.extensions == {"http.response.push": {}}


def test_end_of_the_exchange_is_logged() -> None:
    lines: list[Any] = []
    head = RequestHead("GET", b"/", b"", [], "1.1")
    passing = ResponseFilter(Recorder(), lambda *args: lines.append(args))
    passing.finish(head, {}, 0.5, 200, 3)
    ResponseFilter(Recorder(), None).finish(head, {}, 0.5, 200, 3)

    assert lines == [(head, {}, 0.5, 200, 3)]
