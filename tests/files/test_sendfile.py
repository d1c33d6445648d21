"""Parts of files that go to a socket unread."""

from __future__ import annotations

import mmap
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.files import sendfile as module
from djserve.files.sendfile import DirectSender, is_cached

SIZE = 3 * mmap.PAGESIZE + 17


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "a.bin"
    path.write_bytes(os.urandom(SIZE))
    path.read_bytes()
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


needs_cachestat = pytest.mark.skipif(
    module._find_counter() is None or module._find_counter()(0, 0, 1) < 0,  # type: ignore[misc]
    reason="the kernel cannot tell what its cache has",
)
needs_sendfile = pytest.mark.skipif(
    sys.platform == "win32", reason="the system has no sendfile"
)


@needs_cachestat
def test_part_is_cached_if_each_of_its_pages_is(file: int) -> None:
    assert is_cached(file, 0, SIZE)
    assert is_cached(file, mmap.PAGESIZE - 1, 2)
    # The cache has nothing behind the end.
    assert not is_cached(file, mmap.PAGESIZE, SIZE + mmap.PAGESIZE)
    assert not is_cached(file, 100 * mmap.PAGESIZE, 1)


def test_nothing_is_known_of_what_cannot_be_asked(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_cached(-1, 0, SIZE)
    monkeypatch.setattr(module, "_find_counter", lambda: None)
    assert not is_cached(file, 0, SIZE)


def test_other_machines_have_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MACHINES", ())

    assert module._find_counter.__wrapped__() is None


@needs_sendfile
def test_part_goes_out_as_far_as_the_socket_takes_it(
    file: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    sender = DirectSender(ours.fileno())
    content = os.pread(file, SIZE, 0)

    assert sender.send(file, 5, 1000) == 1000
    assert theirs.recv(2000) == content[5:1005]
    while sender.send(file, 0, SIZE):
        pass
    assert sender.send(file, 0, SIZE) == 0
    sender.close()


@needs_sendfile
def test_descriptor_that_is_another_clients_by_now_gets_nothing(
    file: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    sender = DirectSender(ours.fileno())
    other, peer = socket.socketpair()
    with other, peer:
        # As if the transport had closed it, and another connection got the number.
        os.dup2(other.fileno(), ours.fileno())
        assert sender.send(file, 0, 10) == 10
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(10)
    assert len(theirs.recv(10)) == 10
    sender.close()


@needs_sendfile
def test_broken_socket_takes_nothing(
    file: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    sender = DirectSender(ours.fileno())
    theirs.close()

    assert sender.send(file, 0, SIZE) == 0
    sender.close()
