"""What the supervisor and its processes tell each other.

Who talks to whom
    The supervisor has a channel (``net.channel``, a socket pair with JSON lines) to
    each loader and another to each worker. Loaders and workers have none to each
    other, and a worker's channel does not pass through the loader that has forked it:
    the supervisor opens the pair, sends one end along with the order to fork, and
    closes its copy.

A loader's life
    It says ``CodeLoaded`` once, or ``Failed`` and ends. Then it waits for orders. A
    ``ForkWorker`` is answered by ``WorkerForked`` with the process id, and much later
    by ``WorkerExited``: the loader is the parent, so it alone is told how the worker
    ended. ``BecomeWorker`` ends the conversation: the process is a worker from then
    on, with the channel that came with the order. After ``Quit`` a loader forks
    nothing any more, closes the listening sockets, and ends once its workers have.

A worker's life
    It says ``WorkerReady`` once all its sockets accept, or ``Failed`` and ends. It is
    told ``Stop`` to drain, and a second time to stop at once. With HTTP/3 it gets
    ``ServeDatagrams`` when it is ready, one for each address. ``ReportCalls`` and
    ``ShowMetrics`` are questions and answers by the way: the supervisor asks for the
    calls that run (a worker that is blocked does not answer, so there is a deadline),
    and a worker asks for the figures of all, which the supervisor alone can read.

What is not a message
    Figures and heartbeats: a worker writes them to its board, memory that the
    supervisor reads even if the worker is blocked or dead. Ends: the end of a process
    closes its channel, which both sides see, without a word. A signal is sent if a
    process may not be able to read: SIGTERM to a worker that still starts, SIGUSR2
    for its stacks, SIGKILL past a deadline.

Order
    Messages on one channel arrive in the order in which they were sent; between two
    channels there is none. "WorkerForked" and "WorkerReady" of one worker may arrive
    either way round, and "WorkerExited" before or after the end of the worker's
    channel. The fleet is therefore written so that each of them may come first.

Versions
    After an installation a supervisor of one version has workers of another. On the
    wire a message is an object with its name under "command" (from the supervisor) or
    "event" (to it). A message of an unknown name, or one that lacks a field, is left
    alone, and so is a field that this version does not know. Names and fields are
    never given another meaning.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djserve.conf.schema import LifecycleConfig

PRELOAD_OFF = "PRELOAD is off"
"""The obstacle to a fork that the operator has asked for."""

STOP_MARGIN = 10.0
"""Seconds beyond all of a worker's own deadlines until it is killed."""

Calls: TypeAlias = list[dict[str, Any]]
"""The calls that run in a worker, as ``inspection`` describes them."""


class WorkerState(Enum):
    """STARTING until it is ready, STOPPING once it was told to end."""

    STARTING = auto()
    READY = auto()
    STOPPING = auto()


@dataclass(frozen=True, slots=True)
class CodeLoaded:
    """From a loader: it has the application; ``obstacle`` is why it cannot fork."""

    NAME: ClassVar[str] = "loaded"
    obstacle: str
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Failed:
    """From a loader or a worker: why it ends without serving."""

    NAME: ClassVar[str] = "failed"
    problems: list[str]


@dataclass(frozen=True, slots=True)
class WorkerForked:
    """From a loader: the process of the worker that was ordered."""

    NAME: ClassVar[str] = "forked"
    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """From a loader: how a worker that it has forked has ended."""

    NAME: ClassVar[str] = "exited"
    pid: int
    code: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """From a worker: every address accepts connections."""

    NAME: ClassVar[str] = "ready"
    pid: int
    loop: str


@dataclass(frozen=True, slots=True)
class MetricsWanted:
    """From a worker: it is asked for the metrics of all."""

    NAME: ClassVar[str] = "metrics"


@dataclass(frozen=True, slots=True)
class CallsReported:
    """From a worker: what it is doing, in answer to ``ReportCalls``."""

    NAME: ClassVar[str] = "report"
    id: int
    calls: Calls


@dataclass(frozen=True, slots=True)
class ForkWorker:
    """To a loader: fork a worker. Its descriptors come along."""

    NAME: ClassVar[str] = "fork"
    number: int


@dataclass(frozen=True, slots=True)
class BecomeWorker:
    """To a loader: be a worker. Its descriptors come along."""

    NAME: ClassVar[str] = "become"
    number: int


@dataclass(frozen=True, slots=True)
class Quit:
    """To a loader: end once the workers have."""

    NAME: ClassVar[str] = "quit"


@dataclass(frozen=True, slots=True)
class Stop:
    """To a worker: drain and end; a second time at once."""

    NAME: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class ReportCalls:
    """To a worker: say what you are doing."""

    NAME: ClassVar[str] = "report"
    id: int


@dataclass(frozen=True, slots=True)
class ShowMetrics:
    """To a worker: the metrics that it has asked for."""

    NAME: ClassVar[str] = "metrics"
    text: str


@dataclass(frozen=True, slots=True)
class ServeDatagrams:
    """To a worker: serve HTTP/3 on the UDP socket that comes along.

    Other workers have sockets of the same address, and meet in the folder.
    """

    NAME: ClassVar[str] = "datagrams"
    folder: str


Event: TypeAlias = (
    CodeLoaded
    | Failed
    | WorkerForked
    | WorkerExited
    | WorkerReady
    | MetricsWanted
    | CallsReported
)
Order: TypeAlias = (
    ForkWorker | BecomeWorker | Quit | Stop | ReportCalls | ShowMetrics | ServeDatagrams
)

_EVENTS: dict[str, type[Event]] = {
    kind.NAME: kind
    for kind in (
        CodeLoaded,
        Failed,
        WorkerForked,
        WorkerExited,
        WorkerReady,
        MetricsWanted,
        CallsReported,
    )
}
_ORDERS: dict[str, type[Order]] = {
    kind.NAME: kind
    for kind in (
        ForkWorker,
        BecomeWorker,
        Quit,
        Stop,
        ReportCalls,
        ShowMetrics,
        ServeDatagrams,
    )
}


def encode_event(event: Event) -> dict[str, Any]:
    """Return an event as it is sent to the supervisor."""
    return {"event": event.NAME, **_fields(event)}


def encode_order(order: Order) -> dict[str, Any]:
    """Return an order as the supervisor sends it."""
    return {"command": order.NAME, **_fields(order)}


def decode_event(message: Mapping[str, Any]) -> Event | None:
    """Return what a process has told, None if this version does not know it."""
    event: Event | None = _decode(_EVENTS.get(message.get("event", "")), message)
    return event


def decode_order(message: Mapping[str, Any]) -> Order | None:
    """Return what the supervisor has ordered, None if this version does not know it."""
    order: Order | None = _decode(_ORDERS.get(message.get("command", "")), message)
    return order


def time_to_end(config: LifecycleConfig) -> float:
    """Return the seconds after which a worker that was told to end is killed."""
    return config.shutdown_timeout + config.lifespan_timeout + STOP_MARGIN


def time_to_hear(config: LifecycleConfig) -> float:
    """Return the seconds after which a worker's loop must have learned of its end.

    A loop that is blocked for as long as requests may take finishes none of them.
    """
    return config.shutdown_timeout + STOP_MARGIN


def _fields(message: Event | Order) -> dict[str, Any]:
    return {
        field.name: getattr(message, field.name)
        for field in dataclasses.fields(message)
    }


def _decode(kind: Any, message: Mapping[str, Any]) -> Any:
    if kind is None:
        return None
    names = [field.name for field in dataclasses.fields(kind)]
    if not all(name in message for name in names):
        return None
    return kind(**{name: message[name] for name in names})
