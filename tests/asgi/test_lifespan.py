from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from channels.routing import ProtocolTypeRouter
from django.core.handlers.asgi import ASGIHandler

from djserve.asgi.lifespan import Lifespan
from djserve.errors import LifespanError, UnexpectedMessage
from tests.support.logs import own_records
from tests.support.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djserve.asgi.types import Application, Receive, Scope, Send

MODES = ["auto", "on"]
STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


def start(
    application: Application, mode: str = "on", timeout: float = 5
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        lifespan = Lifespan(application, mode, timeout)
        try:
            return await lifespan.startup()
        finally:
            assert asyncio.all_tasks() <= {asyncio.current_task(), lifespan._task}
            await lifespan.shutdown()

    return run_in_virtual_time(main())


def start_and_stop(application: Application, timeout: float = 5) -> None:
    async def main() -> None:
        lifespan = Lifespan(application, "on", timeout)
        await lifespan.startup()
        await lifespan.shutdown()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_in_virtual_time(main())


def after_start(end: Callable[[Receive, Send], Awaitable[None]]) -> Application:
    """Return an application that starts, then does as ``end`` says."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(STARTED)
        await end(receive, send)

    return application


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in own_records(caplog, logging.WARNING)]


# Start-up


@pytest.mark.parametrize("mode", MODES)
def test_state_set_by_the_application_is_returned(mode: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "lifespan.startup"}
        scope["state"]["pool"] = "ready"
        await send(STARTED)
        await receive()
        await send(STOPPED)

    assert start(application, mode) == {"pool": "ready"}


def test_scope_has_the_versions_of_the_specification() -> None:
    seen: dict[str, Any] = {}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope)
        await send(STARTED)

    start(application)

    assert seen == {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
    }


def test_off_does_not_call_the_application() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        pytest.fail("called")

    assert start(application, "off") == {}


@pytest.mark.parametrize("mode", MODES)
def test_reported_failure_stops_the_start(mode: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("as frameworks do after they have sent it")

    with pytest.raises(LifespanError, match="startup failed: no database"):
        start(application, mode)


def test_reported_failure_may_lack_a_message() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed"})

    with pytest.raises(LifespanError, match="gave no reason"):
        start(application)


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["half"] = "done"
    raise ValueError("only http here")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def answers_http(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})


async def sends_no_type(scope: Scope, receive: Receive, send: Send) -> None:
    await send({})


async def stops_before_it_starts(scope: Scope, receive: Receive, send: Send) -> None:
    await send(STOPPED)


async def cancels_itself(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


WITHOUT_LIFESPAN = [
    raises,
    returns,
    answers_http,
    sends_no_type,
    stops_before_it_starts,
    cancels_itself,
]


@pytest.mark.parametrize("application", WITHOUT_LIFESPAN)
def test_auto_goes_on_quietly_without_a_lifespan(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    assert start(application, "auto") == {}
    assert errors(caplog) == []


def test_auto_goes_on_after_a_broken_start_but_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("no database")

    assert start(application, "auto") == {}
    (message,) = errors(caplog)
    assert message.startswith("The lifespan call failed while starting")
    assert "ValueError: no database" in caplog.text


@pytest.mark.parametrize("application", WITHOUT_LIFESPAN)
def test_on_requires_a_lifespan(application: Application) -> None:
    with pytest.raises(LifespanError, match="has no lifespan"):
        start(application, "on")


@pytest.mark.parametrize(
    "application", [ASGIHandler(), ProtocolTypeRouter({"http": ASGIHandler()})]
)
def test_django_and_channels_have_no_lifespan(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    assert start(application, "auto") == {}
    assert errors(caplog) == []


@pytest.mark.parametrize("mode", MODES)
def test_silent_application_is_cancelled_and_stops_the_start(mode: str) -> None:
    ends = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    with pytest.raises(LifespanError, match=r"no answer within 0\.01 seconds"):
        start(application, mode, timeout=0.01)

    assert ends == ["cancelled"]


def test_cancelled_startup_cancels_the_application() -> None:
    ends = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async def main() -> None:
        starting = asyncio.ensure_future(Lifespan(application, "auto", 60).startup())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert starting.cancelled()

    run_in_virtual_time(main())

    assert ends == ["cancelled"]


def test_unexpected_message_names_its_type_and_the_phase() -> None:
    caught = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "websocket.accept"})
        except UnexpectedMessage as exc:
            caught.append(str(exc))
        await send(STARTED)

    assert start(application) == {}
    assert caught == [
        "Unexpected ASGI message 'websocket.accept' in state Phase.STARTING"
    ]


def test_second_startup_answer_is_unexpected(caplog: pytest.LogCaptureFixture) -> None:
    async def end(receive: Receive, send: Send) -> None:
        await send(STARTED)

    start(after_start(end))

    assert errors(caplog) == ["The lifespan call failed while running"]


# While it runs


class OwnBase(BaseException):
    """One that derives from BaseException alone."""


ENDS = pytest.mark.parametrize(
    "end", [SystemExit, KeyboardInterrupt, GeneratorExit, OwnBase]
)
"""What asyncio's loop would break off for, if it were not caught, and another one."""


@ENDS
@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("takes_event", [True, False])
def test_application_that_wants_to_end_the_process_stops_the_start(
    end: type[BaseException], mode: str, takes_event: bool
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if takes_event:
            await receive()
        raise end("no database")

    with pytest.raises(LifespanError, match=r"startup failed.*no database") as caught:
        start(application, mode)

    assert isinstance(caught.value.__cause__, end)


@ENDS
def test_end_of_the_process_asked_for_after_the_start_is_a_failure_like_others(
    end: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def stop(receive: Receive, send: Send) -> None:
        await receive()
        raise end("cannot close")

    start_and_stop(after_start(stop))

    assert errors(caplog) == ["The lifespan call failed while stopping"]


class Speechless(SystemExit):
    def __repr__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_exception_without_words_stops_the_start_all_the_same(mode: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise Speechless

    with pytest.raises(LifespanError, match="raised Speechless, whose"):
        start(application, mode)


def test_cancellation_by_the_application_itself_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    assert start(after_start(end)) == {}
    assert errors(caplog) == ["The lifespan call failed while running"]


def test_failure_after_the_start_is_logged_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        raise ValueError("background work")

    assert start(after_start(end)) == {}
    assert errors(caplog) == ["The lifespan call failed while running"]
    assert "background work" in caplog.text


def test_application_may_return_after_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        return

    start_and_stop(after_start(end))

    assert errors(caplog) == []


# Shutdown


def test_shutdown_waits_for_the_application(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    async def end(receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "lifespan.shutdown"}
        await asyncio.sleep(0)
        await send(STOPPED)
        await asyncio.sleep(0)
        done.append("after the answer")

    start_and_stop(after_start(end))

    assert done == ["after the answer"]
    assert errors(caplog) == []


def test_reported_shutdown_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def end(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "queue not empty"})

    start_and_stop(after_start(end))

    assert errors(caplog) == ["Lifespan shutdown failed: queue not empty"]


def test_exception_in_the_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def end(receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("cannot close")

    start_and_stop(after_start(end))

    assert errors(caplog) == ["The lifespan call failed while stopping"]


def test_return_without_an_answer_ends_the_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        await receive()

    start_and_stop(after_start(end))

    assert errors(caplog) == []


def test_silent_shutdown_is_cancelled_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    start_and_stop(after_start(end), timeout=0.01)

    assert errors(caplog) == ["Lifespan shutdown: no answer within 0.01 seconds"]


def test_call_that_hangs_after_its_answer_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        await receive()
        await send(STOPPED)
        await asyncio.Event().wait()

    start_and_stop(after_start(end))

    assert errors(caplog) == []


def test_call_that_refuses_cancellation_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async def main() -> None:
        lifespan = Lifespan(after_start(end), "on", 0.01)
        await lifespan.startup()
        await lifespan.shutdown()

    run_in_virtual_time(main())

    assert "The lifespan call does not end when it is cancelled" in errors(caplog)


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_shutdown_without_a_start_does_nothing(mode: str) -> None:
    asyncio.run(Lifespan(raises, mode, 5).shutdown())


def test_second_shutdown_does_nothing() -> None:
    events = []

    async def end(receive: Receive, send: Send) -> None:
        events.append(await receive())
        await send(STOPPED)

    async def main() -> None:
        lifespan = Lifespan(after_start(end), "on", 5)
        await lifespan.startup()
        await lifespan.shutdown()
        await lifespan.shutdown()

    run_in_virtual_time(main())

    assert events == [{"type": "lifespan.shutdown"}]
