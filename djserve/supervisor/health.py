"""Whether a worker's event loop turns: its stack is logged, then it is ended."""

from __future__ import annotations

import logging
import signal
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
        worker.send_signal(signal.SIGKILL)
