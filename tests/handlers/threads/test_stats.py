"""What a pool tells of itself."""

from __future__ import annotations

import threading

from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool


def test_pool_tells_who_runs_and_who_waits(pool: ThreadPool) -> None:
    begun, gate = threading.Semaphore(0), threading.Event()

    def wait() -> None:
        begun.release()
        gate.wait(60)

    leases = [Lease(pool, held=False, view=name) for name in ("a", "b", "b")]
    futures = [lease.submit(wait) for lease in leases]
    for _ in range(2):
        begun.acquire(timeout=60)
    stats = pool.stats()
    gate.set()
    for future in futures:
        future.result(60)

    assert stats.by_view == {"a": (1, 0), "b": (1, 1)}
    assert (stats.running, stats.queued) == (2, 1)
