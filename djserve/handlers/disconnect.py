"""Cancel what works for a client when the client goes away.

The client is listened to only from the moment that the work has to wait for something:
a request that is answered before that costs no task. The work runs in the request's own
task, as it would without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from djserve.asgi.http import HTTPExchange

if TYPE_CHECKING:
    from djserve.asgi.types import Receive


class Disconnect:
    """The listener of one request; ``close`` must be called at its end.

    ``on_happen`` is called when the client has gone, to stop work that is not ours to
    cancel as a task.
    """

    def __init__(self, receive: Receive) -> None:
        self.happened = False
        self.on_happen: Callable[[], object] | None = None
        self._receive = receive
        self._exchange: HTTPExchange | None = None
        self._listener: asyncio.Task[None] | None = None
        self._worker: asyncio.Task[Any] | None = None
        self._error: Exception | None = None

    async def cancels(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run ``work``, cancelled when the client goes away; True if it has ended.

        A cancellation from elsewhere goes on as such. Raises what ``receive`` raises,
        and AssertionError for a message that is not the disconnect, as Django does.
        """
        if self._has_happened():
            work.close()
            return False
        task = asyncio.current_task()
        assert task is not None
        self._worker = task
        try:
            await _Interruptible(work, self.listen)
        except asyncio.CancelledError:
            if not self._has_happened() or task.uncancel() > 0:
                raise
            completed = False
        else:
            completed = True
            if self._has_happened():
                # The work has caught its cancellation and gone on to its end.
                task.uncancel()
        finally:
            self._worker = None
        self.check()
        return completed

    def check(self) -> None:
        """Raise what went wrong with listening."""
        if self._error is not None:
            raise self._error

    def listen(self) -> None:
        """Listen from now on."""
        if self._listener is not None or self._exchange is not None or self.happened:
            return
        loop = asyncio.get_running_loop()
        exchange = getattr(self._receive, "__self__", None)
        if type(exchange) is HTTPExchange:
            # djserve's own: it calls, and no task has to wait for it.
            self._exchange = exchange
            exchange.on_disconnect = self._happen
            if exchange.has_ended():
                loop.call_soon(self._happen)
            return
        self._listener = loop.create_task(self._listen())

    def close(self) -> None:
        """Listen no longer."""
        if self._exchange is not None:
            self._exchange.on_disconnect = None
            self._exchange = None
        elif self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def _has_happened(self) -> bool:
        # By a call: the type checker takes the attribute for unchanged by an await.
        return self.happened

    async def _listen(self) -> None:
        try:
            message = await self._receive()
        except Exception as error:
            self._error = error
        else:
            if message["type"] != "http.disconnect":
                self._error = AssertionError(
                    f"Invalid ASGI message after request body: {message['type']}"
                )
        self._listener = None
        self._happen()

    def _happen(self) -> None:
        self.happened = True
        if self._worker is not None:
            self._worker.cancel()
        if self.on_happen is not None:
            self.on_happen()


class _Interruptible:
    """Await a coroutine, and call ``on_wait`` when it waits for the first time."""

    def __init__(
        self, work: Coroutine[Any, Any, None], on_wait: Callable[[], None]
    ) -> None:
        self._work = work
        self._on_wait = on_wait

    def __await__(self) -> Generator[Any, Any, None]:
        work = self._work
        try:
            pending = work.send(None)
        except StopIteration:
            return
        self._on_wait()
        while True:
            # The first wait is passed on by hand, the later ones by `yield from`.
            try:
                yield pending
            except BaseException as error:
                try:
                    pending = work.throw(error)
                except StopIteration:
                    return
            else:
                break
        yield from work.__await__()
