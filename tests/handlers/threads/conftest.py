from __future__ import annotations

from collections.abc import Iterator

import pytest

from djserve.handlers.threads.pool import ThreadPool


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """A pool of two threads that knows no database."""
    pool = ThreadPool(2)
    yield pool
    assert pool.close(60)
