from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings

from djserve.handlers.runtime import make_pool
from djserve.handlers.threads.pool import ThreadPool


@pytest.fixture(autouse=True)
def _no_channel_layer() -> Iterator[None]:
    """The demo project's opens sockets; the consumers of these tests need none."""
    with override_settings(CHANNEL_LAYERS={}):
        yield


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """A pool of two threads, as the runtime makes it."""
    pool = make_pool(2)
    yield pool
    assert pool.close(60)
