"""What a worker is doing: each application call with its view, age and stack."""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from djserve.asgi.application import RunningCall

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
    threads = dict(_find_threads())
    now = time.perf_counter()
    reports = []
    for scope, task, started in calls:
        frame = threads.get(id(scope))
        stack = _task_stack(task) if frame is None else _frame_stack(frame)
        reports.append(
            {
                "method": scope.get("method", "WebSocket"),
                "path": scope.get("path", ""),
                "view": describe(scope),
                "age": round(now - started, 3),
                "where": "loop" if frame is None else "thread",
                "stack": stack,
            }
        )
    reports.sort(key=lambda report: -report["age"])
    return reports[:MOST_CALLS]


def _find_threads() -> Iterator[tuple[int, FrameType]]:
    """Yield the identity of each scope that a thread's frames work on, with its top."""
    own = sys._getframe()
    for top in sys._current_frames().values():
        if top is own:
            continue
        frame: FrameType | None = top
        while frame is not None:
            for value in list(frame.f_locals.values()):
                scope = value if type(value) is dict else getattr(value, "scope", None)
                if type(scope) is dict and "asgi" in scope:
                    yield id(scope), top
            frame = frame.f_back


def _task_stack(task: asyncio.Task[Any] | None) -> list[str]:
    """Return a suspended task's frames, from the application to what it waits for."""
    frames: list[str] = []
    waits: Any = None if task is None else task.get_coro()
    while waits is not None and len(frames) < MOST_FRAMES:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is None:
            break
        frames.append(_describe(frame, frame.f_lineno))
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return frames


def _frame_stack(top: FrameType) -> list[str]:
    stack = list(traceback.walk_stack(top))[:MOST_FRAMES]
    return [_describe(frame, line) for frame, line in reversed(stack)]


def _describe(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{line} in {code.co_name}"
