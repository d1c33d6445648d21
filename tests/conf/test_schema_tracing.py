from __future__ import annotations

from djserve.conf.parser import parse
from djserve.conf.schema_tracing import TracingConfig


def test_nothing_is_traced_by_default() -> None:
    assert parse({}).tracing == TracingConfig(tracing=False)


def test_tracing_is_turned_on_by_its_key() -> None:
    assert parse({"TRACING": True}).tracing.tracing
