from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from djserve.net.forks import ForkGuard, end_stray_child, name_sockets, own_fork

pytestmark = pytest.mark.e2e

CLOSED = 10
OPEN = 11


def run_in_child(look: Callable[[], int]) -> int:
    """Return the exit code of a fork that calls ``look``."""
    with warnings.catch_warnings():
        # Python 3.15 counts the thread by which pytest's faulthandler_timeout waits.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = look()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state_of(*socks: socket.socket) -> int:
    """Return CLOSED where none of the sockets is one any more, OPEN where all are."""
    found = set()
    for sock in socks:
        try:
            socket.socket(fileno=os.dup(sock.fileno())).close()
        except OSError:
            found.add(CLOSED)
        else:
            found.add(OPEN)
    return found.pop() if len(found) == 1 else 0


@contextmanager
def listen(
    family: socket.AddressFamily, name: object
) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """Give a listening socket, a client's and the accepted one."""
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.bind(name)  # type: ignore[arg-type]
        listening.listen()
        with socket.socket(family, socket.SOCK_STREAM) as client:
            own = listening.getsockname()
            if family == socket.AF_INET:
                own = ("127.0.0.1", own[1])
            client.connect(own)
            accepted, _ = listening.accept()
            with accepted:
                yield listening, client, accepted


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_child_has_neither_listener_nor_accepted_connection(host: str) -> None:
    with listen(socket.AF_INET, (host, 0)) as (listening, client, accepted):
        names = name_sockets([listening.fileno()])
        with ForkGuard(lambda: names):
            assert run_in_child(lambda: state_of(listening, accepted)) == CLOSED
            assert run_in_child(lambda: state_of(client)) == OPEN
        assert state_of(listening, client, accepted) == OPEN


def test_child_has_no_unix_socket_of_the_server(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listen(socket.AF_UNIX, path) as (listening, client, accepted):
        names = name_sockets([listening.fileno()])
        with ForkGuard(lambda: names):
            assert run_in_child(lambda: state_of(listening, accepted)) == CLOSED
            assert run_in_child(lambda: state_of(client)) == OPEN


def test_child_keeps_what_is_not_the_servers() -> None:
    with (
        listen(socket.AF_INET, ("127.0.0.1", 0)) as served,
        listen(socket.AF_INET, ("127.0.0.1", 0)) as other,
    ):
        names = name_sockets([served[0].fileno()])
        with ForkGuard(lambda: names):
            assert run_in_child(lambda: state_of(*other)) == OPEN


def test_child_has_no_descriptor_that_is_named() -> None:
    left, right = socket.socketpair()
    with left, right, ForkGuard(tuple, descriptors=[left.fileno()]):
        assert run_in_child(lambda: state_of(left)) == CLOSED
        assert run_in_child(lambda: state_of(right)) == OPEN


def test_own_fork_keeps_everything() -> None:
    with listen(socket.AF_INET, ("127.0.0.1", 0)) as (listening, _, accepted):
        names = name_sockets([listening.fileno()])
        with ForkGuard(lambda: names), own_fork():
            assert run_in_child(lambda: state_of(listening, accepted)) == OPEN


def test_forks_after_the_guards_end_keep_everything() -> None:
    with listen(socket.AF_INET, ("127.0.0.1", 0)) as (listening, _, accepted):
        names = name_sockets([listening.fileno()])
        with ForkGuard(lambda: names):
            pass
        assert run_in_child(lambda: state_of(listening, accepted)) == OPEN


def test_signal_ends_a_child_and_is_not_told_to_the_loop() -> None:
    loop = asyncio.SelectorEventLoop()
    told: list[int] = []

    def end_by_signal() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    async def main() -> int:
        loop.add_signal_handler(signal.SIGTERM, told.append, 1)
        code = run_in_child(end_by_signal)
        for _ in range(20):
            await asyncio.sleep(0)
        return code

    try:
        with ForkGuard(tuple, loop=loop):
            assert loop.run_until_complete(main()) == -signal.SIGTERM
        assert told == []
    finally:
        loop.close()


def test_child_that_closes_its_copies_does_not_change_the_parents_loop() -> None:
    loop = asyncio.SelectorEventLoop()
    left, right = socket.socketpair()
    came: asyncio.Future[bytes] = loop.create_future()
    loop.add_reader(left, lambda: came.set_result(left.recv(10)))

    def remove() -> int:
        loop.remove_reader(left)
        return OPEN

    try:
        with ForkGuard(tuple, loop=loop):
            assert run_in_child(remove) == OPEN
            right.send(b"data")
            assert loop.run_until_complete(asyncio.wait_for(came, 120)) == b"data"
    finally:
        loop.remove_reader(left)
        loop.close()
        left.close()
        right.close()


def test_call_of_the_parents_loop_is_refused_in_a_child() -> None:
    loop = asyncio.SelectorEventLoop()

    def call() -> int:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            return OPEN if "forked" in str(error) else 0
        return CLOSED

    try:
        with ForkGuard(tuple, loop=loop):
            assert run_in_child(call) == OPEN
    finally:
        loop.close()


def test_only_a_stray_child_is_ended() -> None:
    loop = asyncio.SelectorEventLoop()

    def go_on() -> int:
        end_stray_child()
        return OPEN

    end_stray_child()
    try:
        with ForkGuard(tuple):
            assert run_in_child(go_on) == OPEN
        with ForkGuard(tuple, loop=loop):
            assert run_in_child(go_on) == 1
    finally:
        loop.close()


def test_stray_child_is_ended_though_its_line_in_the_log_cannot_be_written() -> None:
    loop = asyncio.SelectorEventLoop()

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            threading.Event().wait()

    def go_on() -> int:
        logging.getLogger("djserve").addHandler(Waiting())
        end_stray_child()
        return OPEN

    try:
        with ForkGuard(tuple, loop=loop):
            assert run_in_child(go_on) == 1
    finally:
        loop.close()
