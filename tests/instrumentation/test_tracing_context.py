from __future__ import annotations

from djserve.instrumentation.tracing_context import (
    current_trace_id,
    prepare,
    prepare_with,
)


def test_code_outside_a_request_belongs_to_no_trace() -> None:
    assert current_trace_id.get() == ""


def test_preparation_happens_once_and_only_when_tracing_begins() -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")

    prepare_with(first)
    prepare_with(first)
    prepare_with(lambda: calls.append("second"))
    assert calls == []

    prepare()
    prepare()
    assert calls[-2:] == ["first", "second"]
    assert calls.count("first") == 1
