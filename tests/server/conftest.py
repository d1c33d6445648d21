"""What the tests of the server share: a reactor to serve on, and figures of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from djserve.instrumentation.board import Board
from djserve.net.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor that nobody else runs on."""
    reactor = Reactor()
    yield reactor
    reactor.dispose()


@pytest.fixture
def board() -> Iterator[Board]:
    """A board without figures."""
    board = Board()
    yield board
    board.close()
