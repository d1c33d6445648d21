"""New code: loaded while the old serves, and refused, or brought in worker by worker.

It has the generations of the code and decides which worker is replaced next. It starts
loaders and no workers, and knows the fleet's workers as arguments alone.
"""

# A rolling restart
#
# New code is brought in without a moment in which nothing serves, and code that does
# not work is never brought in at all. The steps, and what each one protects:
#
# 1. ``begin`` starts a loader, a new interpreter that imports the newest code. The old
#    generation serves on. If loading fails (``_refuse``), nothing else has happened.
# 2. ``_loaded`` makes the new generation the current one. From here a worker that is
#    started for any reason is one of the new code: a crash in the middle of a rollout
#    must not bring the old code back.
# 3. Workers are replaced one at a time (``next_to_replace``, asked by the fleet). A new
#    one is started first; only when it accepts connections is the old one told to
#    drain. So a rollout never leaves fewer workers than are wanted, and needs the
#    memory of one worker in addition, not that of all.
# 4. If a new worker ends before it is ready, the rollout is given up (``abandon``): the
#    generation before is the current one again, and its loader, which was kept for
#    that, makes what is missing. Workers of the new code that serve already stay. That
#    generation takes over the number of the one that failed, so the next attempt has a
#    higher number than all workers, and replaces those of either code.
# 5. When no worker of old code is left, the old loader is told to quit.
#
# A rollout that is asked for while one is under way begins after it, and several such
# requests are one: each loads the newest code, so the last one is enough. Numbers only
# go up, also over failed attempts: a worker is old if its number is lower.
#
# A generation without a loader (``base`` is None) is not an error. A loader that could
# not be forked from has become a worker itself, or has ended; the next worker of that
# generation has a loader for itself.

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from djserve.supervisor.messages import WorkerState
from djserve.supervisor.system import describe_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djserve.supervisor.processes import Loader, Worker

logger = logging.getLogger("djserve")


@dataclass(eq=False)
class Generation:
    """One state of the code: its number, and the loader that has it.

    ``base`` is None if the loader has become a worker, or has ended: the next worker
    has its own loader then.
    """

    number: int
    base: Loader | None


@dataclass(frozen=True)
class RolloutOutcome:
    """How a rollout stands.

    ``state`` is "none", "loading", "rolling", "done" or "failed", then with problems.
    While one is under way, ``previous`` is the outcome of the one before.
    """

    state: str = "none"
    problems: tuple[str, ...] = ()
    attempt: int = 0
    previous: RolloutOutcome | None = None

    def describe(self) -> dict[str, Any]:
        """Return it as plain values, for the control socket."""
        described: dict[str, Any] = {
            "state": self.state,
            "problems": list(self.problems),
            "attempt": self.attempt,
        }
        if self.previous is not None:
            described["previous"] = self.previous.describe()
        return described


class LoaderSource(Protocol):
    """What starts loaders: the spawner."""

    def start_loader(self, on_loaded: Callable[[], None], /) -> Loader: ...


class CodeEvents(Protocol):
    """What new code is reported to: the fleet."""

    def code_loaded(self, loader: Loader, /) -> None: ...
    def code_refused(self, text: str, code: int, /) -> None: ...


class Rollout:
    """Take a fleet from one generation of the code to the next.

    ``brought_in`` is the last attempt that was done, 0 before any.
    """

    def __init__(self, source: LoaderSource, events: CodeEvents) -> None:
        self._source = source
        self._events = events
        self._incoming: Generation | None = None
        self._previous: Generation | None = None
        self._is_wanted_again = False
        self._is_stopping = False
        self.current = Generation(0, None)
        self.outcome = RolloutOutcome()
        self.brought_in = 0

    @property
    def is_rolling(self) -> bool:
        """Whether workers of new code take the place of others."""
        return self._previous is not None

    @property
    def is_under_way(self) -> bool:
        """Whether new code is being loaded or brought in."""
        return self._incoming is not None or self.is_rolling

    def begin(self) -> int:
        """Load the newest code; workers of it replace the others once it is loaded.

        One that is under way is finished first, and another follows it. Returns the
        number that the outcome will have as its attempt.
        """
        if self.is_under_way:
            self._is_wanted_again = True
            return self.outcome.attempt + 1
        before = replace(self.outcome, previous=None)
        attempt = before.attempt + 1
        self.outcome = RolloutOutcome("loading", attempt=attempt, previous=before)
        generation = Generation(self.current.number + 1, None)
        self._incoming = generation
        try:
            generation.base = self._source.start_loader(
                lambda: self._loaded(generation)
            )
        except OSError as error:
            self._refuse((f"No process can be started: {error}",), 1)
        return attempt

    def stop(self) -> None:
        """Begin no other: the server is stopping."""
        self._is_stopping = True

    def loader_ended(self, loader: Loader, code: int) -> bool:
        """Record a loader's end; return whether it was the one of new code."""
        if self._incoming is None or self._incoming.base is not loader:
            return False
        text = f"Loading the application {describe_end(code)}"
        self._refuse(tuple(loader.problems) or (text,), code)
        return True

    def next_to_replace(self, workers: Iterable[Worker]) -> Worker | None:
        """Return the next worker of old code, None if none is left: it is done then."""
        if self._previous is None:
            return None
        for worker in workers:
            is_old = worker.generation < self.current.number
            if is_old and worker.state is not WorkerState.STOPPING:
                return worker
        previous, self._previous = self._previous, None
        if previous.base is not None:
            previous.base.quit()
        if previous.number:
            logger.info("All workers run the new code")
        self._end("done")
        return None

    def abandon(self, failed: Worker) -> None:
        """Keep the workers that there are, since one of the new code did not start."""
        assert self._previous is not None
        broken, self.current, self._previous = self.current, self._previous, None
        # Numbers go up: the next attempt is another generation than this one.
        self.current.number = broken.number
        if broken.base is not None:
            broken.base.quit()
        logger.error("The new code does not start, and the old workers stay")
        problems = failed.problems or [f"{failed} did not become ready"]
        self._end("failed", tuple(problems))

    def _loaded(self, generation: Generation) -> None:
        base = generation.base
        if generation is not self._incoming or base is None:
            return
        self._incoming = None
        if base.obstacle and base.is_obstacle_unexpected:
            logger.warning(
                "Each worker loads the application for itself: %s", base.obstacle
            )
        self._previous, self.current = self.current, generation
        self.outcome = replace(self.outcome, state="rolling")
        self._events.code_loaded(base)

    def _refuse(self, problems: tuple[str, ...], code: int) -> None:
        self._incoming = None
        self._events.code_refused("\n".join(problems), code)
        self._end("failed", problems)

    def _end(self, state: str, problems: tuple[str, ...] = ()) -> None:
        self.outcome = RolloutOutcome(state, problems, self.outcome.attempt)
        if state == "done":
            self.brought_in = self.outcome.attempt
        if self._is_wanted_again and not self._is_stopping:
            self._is_wanted_again = False
            self.begin()
