"""Messages as they are on the wire, for this version and for others."""

from __future__ import annotations

import json

import pytest

from djserve.conf.parser import parse
from djserve.supervisor.messages import (
    STOP_MARGIN,
    BecomeWorker,
    CallsReported,
    CodeLoaded,
    Event,
    Failed,
    ForkWorker,
    MetricsWanted,
    Order,
    Quit,
    ReportCalls,
    ShowMetrics,
    Stop,
    WorkerExited,
    WorkerForked,
    WorkerReady,
    decode_event,
    decode_order,
    encode_event,
    encode_order,
    time_to_end,
    time_to_hear,
)

EVENTS: list[tuple[Event, dict[str, object]]] = [
    (CodeLoaded("", ["a"]), {"event": "loaded", "obstacle": "", "notes": ["a"]}),
    (Failed(["no"]), {"event": "failed", "problems": ["no"]}),
    (WorkerForked(1, 20), {"event": "forked", "number": 1, "pid": 20}),
    (WorkerExited(20, -9), {"event": "exited", "pid": 20, "code": -9}),
    (WorkerReady(20, "uvloop"), {"event": "ready", "pid": 20, "loop": "uvloop"}),
    (MetricsWanted(), {"event": "metrics"}),
    (
        CallsReported(3, [{"age": 1}]),
        {"event": "report", "id": 3, "calls": [{"age": 1}]},
    ),
]
ORDERS: list[tuple[Order, dict[str, object]]] = [
    (ForkWorker(1), {"command": "fork", "number": 1}),
    (BecomeWorker(1), {"command": "become", "number": 1}),
    (Quit(), {"command": "quit"}),
    (Stop(), {"command": "stop"}),
    (ReportCalls(3), {"command": "report", "id": 3}),
    (ShowMetrics("a 1"), {"command": "metrics", "text": "a 1"}),
]


@pytest.mark.parametrize(
    ("event", "wire"), EVENTS, ids=lambda case: type(case).__name__
)
def test_event_is_the_same_on_the_wire_in_all_versions(
    event: Event, wire: dict[str, object]
) -> None:
    assert encode_event(event) == wire
    assert decode_event(json.loads(json.dumps(wire))) == event


@pytest.mark.parametrize(
    ("order", "wire"), ORDERS, ids=lambda case: type(case).__name__
)
def test_order_is_the_same_on_the_wire_in_all_versions(
    order: Order, wire: dict[str, object]
) -> None:
    assert encode_order(order) == wire
    assert decode_order(json.loads(json.dumps(wire))) == order


@pytest.mark.parametrize(
    "wire",
    [{"event": "paused"}, {"event": "ready", "pid": 1}, {"command": "stop"}, {}],
    ids=["name", "field", "order", "nothing"],
)
def test_what_another_version_tells_is_left_alone(wire: dict[str, object]) -> None:
    assert decode_event(wire) is None


def test_field_of_another_version_is_left_alone() -> None:
    assert decode_order({"command": "fork", "number": 2, "cpu": 1}) == ForkWorker(2)


def test_worker_that_does_not_hear_has_no_time_for_the_lifespan() -> None:
    lifecycle = parse({"SHUTDOWN_TIMEOUT": 5, "LIFESPAN_TIMEOUT": 60}).lifecycle

    assert time_to_hear(lifecycle) == 5 + STOP_MARGIN
    assert time_to_end(lifecycle) == 65 + STOP_MARGIN
