"""What a worker is doing: each application call with its view, age and stack.

Runs on the loop's thread, between calls that are under way, so nothing here may run the
project's code or change what it sees. No attribute of its objects is read (a lazy one
would make its query), nothing is compared or printed, and the variables of its frames
are left alone: to read them keeps their values alive in Python before 3.13.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import traceback
from functools import partial
from types import CoroutineType, FrameType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from djserve.asgi.application import RunningCall

logger = logging.getLogger("djserve")

MOST_CALLS = 200
MOST_FRAMES = 40


def inspect_calls(
    calls: Iterable[RunningCall], describe: Callable[[Mapping[str, Any]], str]
) -> list[dict[str, Any]]:
    """Return the calls that run, the oldest first, as plain values.

    The stack is that of the thread that runs the call's synchronous code, if one does,
    else that of its coroutines; innermost frame last. It is empty for a call without a
    task that waits for a thread.
    """
    running = list(calls)
    threads = _find_threads({id(call.scope) for call in running})
    now = time.perf_counter()
    reports = [_report(call, threads, describe, now) for call in running]
    reports.sort(key=lambda report: -report["age"])
    return reports[:MOST_CALLS]


def _report(
    call: RunningCall,
    threads: Mapping[int, FrameType],
    describe: Callable[[Mapping[str, Any]], str],
    now: float,
) -> dict[str, Any]:
    """Return one call's report, with what can be told of it."""
    scope, task, started = call
    frame = threads.get(id(scope))
    report = {
        "method": _text(scope.get("method", "WebSocket")),
        "path": _text(scope.get("path", "")),
        "view": "",
        "age": round(now - started, 3),
        "where": "loop" if frame is None else "thread",
        "stack": [],
    }
    try:
        report["stack"] = _task_stack(task) if frame is None else _frame_stack(frame)
        report["view"] = describe(scope)
    except Exception:
        # The others are told of all the same.
        logger.exception("A call cannot be described")
    return report


def _text(value: object) -> str:
    """Return a string that a middleware may have replaced by another object."""
    return value if type(value) is str else "?"


# Code that hands a call to a thread: the frames whose variables may be read.
CARRIERS = (
    "djserve.",
    "asgiref.",
    "concurrent.futures.",
    "django.core.handlers.",
)
# What carries a call to its thread, by module and name.
WORK = {
    ("djserve.handlers.threads.hops", "Call"),
    ("concurrent.futures.thread", "_WorkItem"),
}
# From a variable of such a frame to the scope: a work item, its function, a bound
# method, the request that it is given.
DEPTH = 5


def _find_threads(scopes: set[int]) -> dict[int, FrameType]:
    """Return the top frame of the thread that works on each scope, by its identity."""
    found: dict[int, FrameType] = {}
    own = sys._getframe()
    for top in sys._current_frames().values():
        if top is own:
            continue
        scope = _find_scope(top, scopes)
        if scope is not None:
            found[scope] = top
    return found


def _find_scope(top: FrameType, scopes: set[int]) -> int | None:
    frame: FrameType | None = top
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if type(name) is str and f"{name}.".startswith(CARRIERS):
            for value in list(frame.f_locals.values()):
                for carried in _unpack(value, DEPTH):
                    if id(carried) in scopes:
                        return id(carried)
        frame = frame.f_back
    return None


def _unpack(value: object, depth: int) -> Iterator[object]:
    """Yield an object and what it refers to, as the garbage collector knows it.

    Followed further are the ways in which a call is handed to a thread, and no others:
    a pool or a handler knows the scopes of many.
    """
    yield value
    kind = type(value)
    referents = gc.get_referents(value)
    if depth and (kind in (tuple, partial, MethodType) or _qualify(kind) in WORK):
        for referent in referents:
            yield from _unpack(referent, depth - 1)
        return
    # An attribute is in the object itself or in its dictionary.
    for referent in referents:
        yield referent
        if type(referent) is dict and kind is not dict:
            yield from referent.values()


def _qualify(kind: type) -> tuple[object, object]:
    """Return a class's module and name, past what a metaclass may make of them."""
    module = type.__getattribute__(kind, "__module__")
    return module if type(module) is str else "", type.__getattribute__(
        kind, "__name__"
    )


def _task_stack(task: asyncio.Task[Any] | None) -> list[str]:
    """Return a suspended task's frames, from the application to what it waits for."""
    frames: list[str] = []
    waits: Any = None if task is None else task.get_coro()
    while len(frames) < MOST_FRAMES:
        # An awaitable of the project's ends it: it is not asked what it waits for.
        if type(waits) is CoroutineType:
            frame, waits = waits.cr_frame, waits.cr_await
        elif type(waits) is GeneratorType:
            frame, waits = waits.gi_frame, waits.gi_yieldfrom
        else:
            break
        if frame is None:
            break
        frames.append(_describe(frame, frame.f_lineno))
    return frames


def _frame_stack(top: FrameType) -> list[str]:
    stack = list(traceback.walk_stack(top))[:MOST_FRAMES]
    return [_describe(frame, line) for frame, line in reversed(stack)]


def _describe(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{line} in {code.co_name}"
