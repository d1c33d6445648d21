"""The application's start-up and shutdown as an ASGI conversation (lifespan 2.0)."""

# How an application without a lifespan is told from one that fails
#
# The protocol has no way to ask. An application that does not know the scope should
# raise, and a server then goes on without it; Django's handler and Channels' routers do
# so. But one that has a lifespan may raise as well, because its database cannot be
# reached, and to serve it in silence would hide that. What it did before it raised
# tells the two apart:
#
# - It has not taken the event: it has looked at the scope and turned it down. Nothing
#   is logged.
# - It has taken the event, and raised instead of answering: it has a lifespan, which is
#   broken. With "auto" it is served and the error is logged, since servers have always
#   done so; with "on" the server does not start.
# - It has answered ``startup.failed``: it asks not to be served, in every mode.
# - It has not answered within the timeout: as if it had failed. A server that waits for
#   ever is not restarted by anything.
#
# The conversation is one call in one task, from the start to the end of the process, so
# what an application keeps open around it (``async with``) stays open. A call that ends
# earlier ends it; what it raises then is logged, and the application is served on.

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from djserve.asgi.outcomes import is_being_cancelled
from djserve.errors import LifespanError, UnexpectedMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.asgi.types import Application, Message

# For what the application still does after its last answer, and for its cancellation.
END_TIMEOUT = 1.0

logger = logging.getLogger("djserve")
error_logger = logging.getLogger("djserve.error")


class Phase(Enum):
    """How far the conversation is.

    IDLE, STARTING, RUNNING, STOPPING, STOPPED follow each other. STARTING may end in
    ABSENT, if the call ends without an answer, or in FAILED.
    """

    IDLE = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    STOPPED = auto()
    ABSENT = auto()
    FAILED = auto()


class Lifespan:
    """Run an application's lifespan; on, off and auto are alike to the caller.

    "auto" takes an application whose call ends before it has started for one without a
    lifespan; "on" makes that an error; "off" calls nothing.
    """

    def __init__(self, application: Application, mode: str, timeout: float) -> None:
        self._application = application
        self._mode = mode
        self._timeout = timeout
        self._state: dict[str, Any] = {}
        self._phase = Phase.IDLE
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._failure = ""

    async def startup(self) -> dict[str, Any]:
        """Start the application and return the state for its scopes.

        Raises LifespanError if the application says that it failed or does not
        answer in time, and in mode "on" if it has no lifespan. Call it once.
        """
        if self._mode == "off":
            return self._state
        self._phase = Phase.STARTING
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            await self._ask("lifespan.startup")
            if self._phase is Phase.STARTING:
                self._fail(f"no answer within {self._timeout:g} seconds")
        finally:
            if self._phase is not Phase.RUNNING:
                await self._end_task()
        return self._started_state()

    async def shutdown(self) -> None:
        """Tell the application to stop and wait for its answer, within the timeout.

        Failures are logged, never raised. Without a started lifespan it does nothing.
        """
        if self._phase is not Phase.RUNNING:
            return
        self._phase = Phase.STOPPING
        try:
            await self._ask("lifespan.shutdown")
            if self._phase is Phase.STOPPING:
                error_logger.error(
                    "Lifespan shutdown: no answer within %g seconds", self._timeout
                )
        finally:
            await self._end_task()

    async def _ask(self, event: str) -> None:
        """Send an event and wait for its answer, the call's end or the timeout."""
        self._answered.clear()
        self._events.put_nowait({"type": event})
        try:
            await asyncio.wait_for(self._answered.wait(), self._timeout)
        except TimeoutError:
            pass

    def _started_state(self) -> dict[str, Any]:
        if self._phase is Phase.FAILED:
            raise LifespanError(self._failure) from self._error
        if self._phase is Phase.ABSENT:
            return self._state_without_lifespan()
        return self._state

    def _state_without_lifespan(self) -> dict[str, Any]:
        if self._mode == "on":
            cause = (
                "returned" if self._error is None else f"raised {_word(self._error)}"
            )
            message = (
                f"The application has no lifespan: it {cause} before it had started"
            )
            raise LifespanError(message) from self._error
        # The specification's way to say "not supported" is to raise; Django's and
        # Channels' applications do. One that took the event has one, and it broke.
        if self._error is not None and self._events.empty():
            error_logger.error(
                "The lifespan call failed while starting; the application is served "
                "all the same (--lifespan on would stop the start)",
                exc_info=self._error,
            )
        else:
            logger.debug("The application has no lifespan")
        return {}

    async def _end_task(self) -> None:
        task = self._task
        if task is None or task.done():
            return
        try:
            if self._phase is Phase.STOPPED:
                await asyncio.wait({task}, timeout=END_TIMEOUT)
        finally:
            task.cancel()
        _, pending = await asyncio.wait({task}, timeout=END_TIMEOUT)
        if pending:
            error_logger.error("The lifespan call does not end when it is cancelled")

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._application(scope, self._events.get, self._send)
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                raise
            self._error = exc
        except Exception as exc:
            self._error = exc
        except BaseException as exc:
            # A task hands some of these on to the loop, which would end in the middle.
            self._error = exc
            if self._phase is Phase.STARTING:
                self._fail(f"the application raised {_word(exc)}")
        finally:
            self._end_call()

    def _end_call(self) -> None:
        phase = self._phase
        if phase is Phase.STARTING:
            self._phase = Phase.ABSENT
        elif phase is not Phase.FAILED:
            self._phase = Phase.STOPPED
            self._log_end(phase)
        self._answered.set()

    def _log_end(self, phase: Phase) -> None:
        if self._error is not None:
            error_logger.error(
                "The lifespan call failed while %s",
                phase.name.lower(),
                exc_info=self._error,
            )
        elif phase is Phase.RUNNING:
            logger.debug("The lifespan call returned before the shutdown")

    async def _send(self, message: Message) -> None:
        """Take one message from the application; raises UnexpectedMessage."""
        message_type = message.get("type")
        action = self._ACTIONS.get((self._phase, str(message_type)))
        if action is None:
            raise UnexpectedMessage(message_type, self._phase)
        action(self, message)
        self._answered.set()

    def _complete_startup(self, message: Message) -> None:
        self._phase = Phase.RUNNING

    def _fail_startup(self, message: Message) -> None:
        self._fail(message.get("message") or "the application gave no reason")

    def _fail(self, reason: str) -> None:
        self._phase = Phase.FAILED
        self._failure = f"Lifespan startup failed: {reason}"

    def _complete_shutdown(self, message: Message) -> None:
        self._phase = Phase.STOPPED

    def _fail_shutdown(self, message: Message) -> None:
        self._phase = Phase.STOPPED
        reason = message.get("message") or "the application gave no reason"
        error_logger.error("Lifespan shutdown failed: %s", reason)

    _ACTIONS: dict[tuple[Phase, str], Callable[[Lifespan, Message], None]] = {
        (Phase.STARTING, "lifespan.startup.complete"): _complete_startup,
        (Phase.STARTING, "lifespan.startup.failed"): _fail_startup,
        (Phase.STOPPING, "lifespan.shutdown.complete"): _complete_shutdown,
        (Phase.STOPPING, "lifespan.shutdown.failed"): _fail_shutdown,
    }


def _word(error: BaseException) -> str:
    """Return an exception in words, whatever its own methods do."""
    try:
        return repr(error)
    except BaseException:
        return f"{type(error).__name__}, whose repr() fails,"
