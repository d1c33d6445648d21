from __future__ import annotations

from djserve.instrumentation.tracing_context import current_trace_id


def test_code_outside_a_request_belongs_to_no_trace() -> None:
    assert current_trace_id.get() == ""
