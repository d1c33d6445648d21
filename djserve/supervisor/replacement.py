"""When a worker is replaced: it hangs, has reached a limit, or has ended by itself."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.conf.schema import WorkersConfig
    from djserve.supervisor.processes import Worker


logger = logging.getLogger("djserve")

KILL_TIMEOUT = 1.0
"""Seconds for a process to end of SIGKILL before it is sent again."""

DUMP_TIME = 0.2
"""Seconds for a process to write its stacks."""

DUMP_LIMIT = 2.0
"""Seconds after which it is taken to write none: a machine may be too busy for it."""


def check_loop(worker: Worker, config: WorkersConfig, now: float) -> None:
    """Look at a worker that is ready; called all the time."""
    silence = worker.silence(now)
    limits = (config.worker_block_warning, config.worker_hang_timeout)
    first = min((limit for limit in limits if limit is not None), default=None)
    if first is None:
        return
    if worker.blocked_since is None:
        if silence >= first:
            worker.blocked_since = now - silence
            worker.dumped_at = now
            worker.ask_for_stacks()
        return
    if worker.dumped_at is not None and _is_dumped(worker, now - worker.dumped_at):
        _log_stacks(worker, silence)
    if silence < first:
        blocked = now - worker.blocked_since
        worker.blocked_since = worker.dumped_at = None
        logger.warning("%s: the event loop ran on after %.1f seconds", worker, blocked)
        return
    limit = config.worker_hang_timeout
    if limit is not None and silence >= limit:
        _end(worker, limit, now)


def _is_dumped(worker: Worker, elapsed: float) -> bool:
    if elapsed < DUMP_TIME:
        return False
    return elapsed >= DUMP_LIMIT or worker.read_stacks() != ""


def _log_stacks(worker: Worker, silence: float) -> None:
    worker.dumped_at = None
    logger.error(
        "%s: the event loop has been blocked for %.1f seconds; stacks, most recent "
        "call first:\n%s",
        worker,
        silence,
        worker.read_stacks(),
    )


def _end(worker: Worker, limit: float, now: float) -> None:
    # Not before its stack is in the log, and once.
    if worker.dumped_at is None and worker.deadline is None:
        logger.error("%s is replaced: it was blocked for %g seconds", worker, limit)
        worker.deadline = now + KILL_TIMEOUT
        worker.kill()


@dataclass(frozen=True)
class Limits:
    """One worker's limits, which differ a little from those of the others."""

    requests: float
    age: float
    memory: float

    @classmethod
    def draw(cls, config: WorkersConfig, chance: random.Random) -> Limits:
        """Return the configured limits, each less up to ``worker_jitter`` per cent."""

        def vary(limit: float | None) -> float:
            if limit is None:
                return float("inf")
            return limit * (1 - chance.random() * config.worker_jitter / 100)

        return cls(
            vary(config.worker_max_requests),
            vary(config.worker_max_age),
            vary(config.worker_max_memory),
        )

    def find_reason(self, requests: int, age: float, memory: int) -> str:
        """Return which limit is reached, "" if none is."""
        if requests >= self.requests:
            return f"it has answered {requests} requests"
        if age >= self.age:
            return f"it is {age:.0f} seconds old"
        if memory >= self.memory:
            return f"it uses {memory / 2**20:.0f} MiB"
        return ""


SHORT_LIFE = 1.0
"""Seconds: a worker that served for longer is replaced at once."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
MOST_DOUBLINGS = 10
STORM_COUNT = 5
"""Short lives in a row that are called a storm in the log."""


class Backoff:
    """Delays that double with each worker that does not live, up to half a minute.

    A crash of a worker that has served costs no delay: the others need it back. Only
    an application that cannot start, or dies at once, is held back.
    """

    def __init__(self, short_life: float = SHORT_LIFE) -> None:
        self._short_life = short_life
        self._short_lives = 0
        self._next_start = 0.0

    @property
    def is_storm(self) -> bool:
        """Whether workers have kept on ending at once."""
        return self._short_lives >= STORM_COUNT

    def worker_ended(self, served: float, now: float) -> float:
        """Note an unexpected end after ``served`` seconds; return the delay."""
        if served > self._short_life:
            self._short_lives = 0
            return 0.0
        # Not of all: after 1,024 there is no float for it, and the supervisor's loop
        # would end, hours into the outage that it is there to outlast.
        doublings = min(self._short_lives, MOST_DOUBLINGS)
        delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2**doublings)
        self._short_lives += 1
        self._next_start = now + delay
        return delay

    def wait(self, now: float) -> float:
        """Return the seconds until the next start is allowed, 0 if it is now."""
        return max(0.0, self._next_start - now)

    def reset(self) -> None:
        """Forget the past: the operator has brought new code."""
        self._short_lives = 0
        self._next_start = 0.0
