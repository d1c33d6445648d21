"""What an exception out of an application's call is: a fault, a farewell, or not its.

Knows neither exchanges nor the log.
"""

from __future__ import annotations

import asyncio
import signal
import threading

from djserve.errors import ClientDisconnected

# Raised by Python itself for a mistake in the code that handles a disconnect.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
)


def is_disconnect(error: BaseException) -> bool:
    """Return whether an exception says only that the client has gone.

    Frameworks turn the OSError of ``send`` into their own exceptions, and task
    groups put it into groups. A cause that is named counts always. A context counts
    if the exception was raised by the very function that had caught it: what fails
    in a clean-up is a fault all the same.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, ClientDisconnected):
            return True
        if isinstance(current, BaseExceptionGroup):
            return all(is_disconnect(inner) for inner in current.exceptions)
        current = current.__cause__ or _converted(current)
    return False


def _converted(error: BaseException) -> BaseException | None:
    """Return the exception that another one was raised instead of, if any."""
    context = error.__context__
    if context is None or isinstance(error, _MISTAKES):
        return None
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    caught = context.__traceback__
    while place is not None and caught is not None:
        if caught.tb_frame is place.tb_frame:
            return context
        caught = caught.tb_next
    return None


def ends_the_loop(error: BaseException, task: asyncio.Task[None] | None) -> bool:
    """Return whether an exception in a call of ``task`` is none of the application's.

    A coroutine that is closed from outside (a loop that ends with calls in it) gets a
    GeneratorExit while its task does not run. A real Ctrl-C raises KeyboardInterrupt
    if nothing else handles the signal. ``task`` is None while its first step runs.
    """
    if isinstance(error, GeneratorExit):
        return task is not None and task is not _running_task()
    return isinstance(error, KeyboardInterrupt) and is_real_interrupt()


def is_real_interrupt() -> bool:
    """Return whether a Ctrl-C raises KeyboardInterrupt in this thread."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def _running_task() -> asyncio.Task[None] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
