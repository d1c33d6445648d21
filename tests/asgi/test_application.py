"""Application calls: started, ended, cancelled; each end told once."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from djserve.asgi.application import AT_ONCE_LIMIT, ApplicationCalls, log_fault
from djserve.errors import ApplicationError, ClientDisconnected
from tests.support.logs import own_records
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djserve.asgi.types import Application, Message, Receive, Scope, Send


class Exchange:
    """The conversation's part: notes how the application's call ended."""

    def __init__(self, **scope: Any) -> None:
        self.scope: Scope = {"type": "http", "method": "GET", "path": "/p", **scope}
        self.ends: list[str] = []

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None:
        return None

    def application_finished(self) -> None:
        self.ends.append("finished")

    def application_failed(self, error: BaseException) -> None:
        self.ends.append(type(error).__name__)


def calling(action: Callable[[], Awaitable[object]]) -> Application:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await action()

    return app


def raising(error: BaseException) -> Application:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


async def forever() -> None:
    await asyncio.Event().wait()


def run_one(app: Application, **scope: Any) -> list[str]:
    """Run one call to its end; return what the exchange was told."""

    async def run() -> list[str]:
        exchange = Exchange(**scope)
        calls = ApplicationCalls(app, asyncio.get_running_loop(), 10.0)
        calls.start(exchange)
        await calls.wait(PATIENCE)
        assert len(calls) == 0
        return exchange.ends

    return asyncio.run(run())


def start(app: Application, close_timeout: float) -> tuple[ApplicationCalls, Exchange]:
    calls = ApplicationCalls(app, asyncio.get_running_loop(), close_timeout)
    exchange = Exchange()
    calls.start(exchange)
    return calls, exchange


def test_end_is_told_once() -> None:
    assert run_one(calling(lambda: asyncio.sleep(0))) == ["finished"]


def test_application_gets_scope_receive_and_send() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({})
        seen.extend([scope["path"], await receive()])

    run_one(app)
    assert seen == ["/p", {"type": "http.request"}]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs eager tasks")
def test_application_runs_at_once_to_its_first_wait() -> None:
    async def run() -> list[str]:
        _, exchange = start(calling(no_wait), 10.0)
        return exchange.ends

    async def no_wait() -> None: ...

    assert asyncio.run(run()) == ["finished"]


@pytest.mark.parametrize("at_once", [0, AT_ONCE_LIMIT])
def test_call_that_begins_inside_of_another_sees_nothing_of_it(at_once: int) -> None:
    outside = ContextVar("outside", default="")
    inside = ContextVar("inside", default="")
    seen: list[tuple[str, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((outside.get(), inside.get()))
        inside.set("the first's")
        if len(seen) == 1:
            scope["calls"].start(Exchange())

    async def run() -> None:
        outside.set("the server's")
        calls = ApplicationCalls(app, asyncio.get_running_loop(), 10.0)
        # From then on a call waits for a turn of the loop.
        calls._ended_at_once = at_once
        calls.start(Exchange(calls=calls))
        while calls:
            await calls.wait(PATIENCE)

    asyncio.run(run())
    assert seen == [("the server's", ""), ("the server's", "")]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        ApplicationError("x"),
        SystemExit(1),
        BaseException("x"),
        ExceptionGroup("x", [ClientDisconnected(), ValueError()]),
        TimeoutError(),
        OSError(),
    ],
)
def test_fault_is_logged_once_with_its_traceback(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_one(raising(error)) == [type(error).__name__]

    [record] = own_records(caplog)
    assert record.name == "djserve.error"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    "error",
    [
        ClientDisconnected(),
        ExceptionGroup("x", [ClientDisconnected()]),
        BaseExceptionGroup("x", [ExceptionGroup("y", [ClientDisconnected()])]),
    ],
)
def test_disconnect_is_not_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_one(raising(error)) == [type(error).__name__]
    assert own_records(caplog) == []


def test_cancellation_of_its_own_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    assert run_one(raising(asyncio.CancelledError())) == ["ApplicationError"]
    assert len(own_records(caplog)) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_every_exception_is_the_applications(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    assert run_one(raising(error())) == [error.__name__]
    assert len(own_records(caplog)) == 1


class Attributeless(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise LookupError(name)


class Kindless(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise LookupError("no class")


@pytest.mark.parametrize("kind", [Attributeless, Kindless])
def test_exception_whose_methods_raise_is_answered(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(run_one(raising(kind()))) == 1
    assert len(own_records(caplog)) == 1


def test_operators_interrupt_is_passed_on() -> None:
    def run() -> None:
        # As it is where nothing else handles the signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt

    async def interrupted() -> None:
        run()

    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_one(calling(interrupted))
    finally:
        signal.signal(signal.SIGINT, before)
    # The loop's log of the dead task belongs to this test.
    gc.collect()


def test_end_of_the_loop_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    exchange = Exchange()
    calls = ApplicationCalls(calling(forever), loop, 10.0)
    calls.start(exchange)
    loop.run_until_complete(asyncio.sleep(0))
    (call,) = calls
    assert call.task is not None
    # What the garbage collector does with a task of a loop that runs no more.
    coroutine: Any = call.task.get_coro()
    coroutine.close()
    task: Any = call.task
    task._log_destroy_pending = False
    loop.close()

    assert exchange.ends == []
    assert own_records(caplog) == []


def test_cancelling_all_waits_for_their_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> tuple[int, list[str]]:
        calls, exchange = start(calling(forever), 10.0)
        await asyncio.sleep(0)
        return await calls.cancel_all(PATIENCE), exchange.ends

    assert asyncio.run(run()) == (1, ["CancelledError"])
    assert own_records(caplog) == []


def test_call_cancelled_before_its_first_step_ends_all_the_same() -> None:
    async def run() -> tuple[int, list[str]]:
        calls, exchange = start(calling(forever), 10.0)
        calls.cancel(exchange)
        await calls.wait(PATIENCE)
        return len(calls), exchange.ends

    assert asyncio.run(run()) == (0, ["CancelledError"])


def test_cancelling_none_is_quick() -> None:
    async def run() -> int:
        calls = ApplicationCalls(raising(ValueError()), asyncio.get_running_loop(), 1.0)
        return await calls.cancel_all(PATIENCE)

    assert asyncio.run(run()) == 0


def test_waiting_has_an_end() -> None:
    async def run() -> int:
        calls, _ = start(calling(forever), 10.0)
        await calls.wait(0.01)
        running = len(calls)
        await calls.cancel_all(PATIENCE)
        return running

    assert asyncio.run(run()) == 1


def test_abandoned_call_is_cancelled_after_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> list[list[str]]:
        calls, exchange = start(calling(forever), 5.0)
        await asyncio.sleep(0)
        calls.abandon(exchange)
        ends = []
        for now in (100.0, 104.9, 105.0):
            calls.tick(now)
            await asyncio.sleep(0)
            ends.append(list(exchange.ends))
        return ends

    assert asyncio.run(run()) == [[], [], ["CancelledError"]]
    [record] = own_records(caplog)
    assert "took longer than 5 s" in record.getMessage()


def test_abandoned_call_that_ends_in_time_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> list[str]:
        event = asyncio.Event()
        calls, exchange = start(calling(event.wait), 5.0)
        calls.abandon(exchange)
        calls.tick(0.0)
        event.set()
        await calls.wait(PATIENCE)
        calls.tick(10.0)
        return exchange.ends

    assert asyncio.run(run()) == ["finished"]
    assert own_records(caplog) == []


def test_close_timeout_of_nought_lets_calls_run() -> None:
    async def run() -> int:
        calls, exchange = start(calling(forever), 0)
        calls.abandon(exchange)
        calls.tick(0.0)
        calls.tick(1e6)
        await asyncio.sleep(0)
        return await calls.cancel_all(PATIENCE)

    assert asyncio.run(run()) == 1


def test_call_that_is_not_abandoned_is_left_alone() -> None:
    async def run() -> list[str]:
        calls, exchange = start(calling(forever), 5.0)
        calls.tick(0.0)
        calls.tick(1e6)
        await asyncio.sleep(0)
        ends = list(exchange.ends)
        await calls.cancel_all(PATIENCE)
        return ends

    assert asyncio.run(run()) == []


def test_fault_names_the_request(caplog: pytest.LogCaptureFixture) -> None:
    log_fault({"method": "POST", "path": "/a"}, ValueError("x"))
    log_fault({"path": "/chat"}, ApplicationError("x"))

    assert [record.getMessage() for record in own_records(caplog)] == [
        "Application raised an exception in POST /a",
        "Application broke ASGI in WebSocket /chat",
    ]


def test_running_calls_are_told_with_their_beginnings() -> None:
    async def run() -> None:
        calls = ApplicationCalls(calling(forever), asyncio.get_running_loop(), 0)
        calls.note_beginnings()
        before = time.perf_counter()
        calls.start(Exchange(path="/first"))
        calls.start(Exchange(path="/second"))
        after = time.perf_counter()
        first, second = calls
        assert (first.scope["path"], second.scope["path"]) == ("/first", "/second")
        assert before <= first.begun <= second.begun <= after
        assert first.task is not None
        assert not first.task.done()
        assert await calls.cancel_all(PATIENCE) == 2
        assert list(calls) == []
        assert calls._beginnings == {}

    asyncio.run(run())


def test_beginning_that_was_not_noted_is_now() -> None:
    async def run() -> None:
        calls, _ = start(calling(forever), 0)
        before = time.perf_counter()
        (call,) = calls
        assert before <= call.begun <= time.perf_counter()
        await calls.cancel_all(PATIENCE)

    asyncio.run(run())


class DirectCall:
    """A call without a task, that ends when a test says so."""

    def __init__(self) -> None:
        self.cancellations = 0

    def cancel(self) -> None:
        self.cancellations += 1


class Direct:
    """An application that begins some calls without a task; itself it counts them."""

    def __init__(self) -> None:
        self.begun: list[DirectCall] = []
        self.count = 0

    def direct_lane(self, calls: ApplicationCalls) -> Direct:
        return self

    def begin(self, exchange: Exchange) -> DirectCall | None:
        if exchange.scope["path"] == "/fails":
            raise LookupError
        if exchange.scope["path"] != "/direct":
            return None
        self.begun.append(DirectCall())
        return self.begun[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1


async def begin_directly() -> tuple[ApplicationCalls, Exchange, DirectCall]:
    app = Direct()
    calls = ApplicationCalls(app, asyncio.get_running_loop(), 5.0)
    exchange = Exchange(path="/direct")
    calls.start(exchange)
    assert app.count == 0
    return calls, exchange, app.begun[0]


@pytest.mark.parametrize("path", ["/task", "/fails"])
def test_request_that_its_lane_does_not_take_gets_a_task(path: str) -> None:
    app = Direct()

    assert run_one(app, path=path) == ["finished"]
    assert (app.count, app.begun) == (1, [])


def test_direct_call_runs_until_its_end_is_told() -> None:
    async def run() -> None:
        calls, exchange, _ = await begin_directly()
        assert calls.is_running(exchange)
        (call,) = calls
        assert call.task is None
        waiting = asyncio.ensure_future(calls.wait(PATIENCE))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        calls.finish(exchange, None)
        await waiting
        assert exchange.ends == ["finished"]
        assert len(calls) == 0

    asyncio.run(run())


def test_fault_of_a_direct_call_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> list[str]:
        calls, exchange, _ = await begin_directly()
        calls.finish(exchange, ValueError("x"))
        return exchange.ends

    assert asyncio.run(run()) == ["ValueError"]
    [record] = own_records(caplog)
    assert record.exc_info is not None


@pytest.mark.parametrize(
    ("was_cancelled", "end"), [(True, "CancelledError"), (False, "ApplicationError")]
)
def test_cancellation_of_a_direct_call_is_ours_or_a_fault(
    was_cancelled: bool, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> list[str]:
        calls, exchange, _ = await begin_directly()
        error = asyncio.CancelledError()
        calls.finish(exchange, error, was_cancelled=was_cancelled)
        return exchange.ends

    assert asyncio.run(run()) == [end]
    assert len(own_records(caplog)) == (0 if was_cancelled else 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_exception_of_a_direct_call_is_the_applications(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> list[str]:
        calls, exchange, _ = await begin_directly()
        calls.finish(exchange, error())
        assert len(calls) == 0
        return exchange.ends

    assert asyncio.run(run()) == [error.__name__]
    assert len(own_records(caplog)) == 1


def test_direct_call_is_cancelled_by_itself() -> None:
    async def run() -> int:
        calls, exchange, call = await begin_directly()
        calls.abandon(exchange)
        calls.tick(0.0)
        calls.tick(5.0)
        assert call.cancellations == 1
        assert await calls.cancel_all(0.01) == 1
        return call.cancellations

    assert asyncio.run(run()) == 2


def test_direct_call_goes_on_as_a_task() -> None:
    async def run() -> None:
        calls, exchange, call = await begin_directly()
        calls.adopt(exchange, calling(forever))
        assert len(calls) == 1
        assert await calls.cancel_all(PATIENCE) == 1
        assert call.cancellations == 0
        assert exchange.ends == ["CancelledError"]

    asyncio.run(run())
