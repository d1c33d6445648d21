from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import pytest

from djserve.net import acceptor
from djserve.net.acceptor import AcceptLoop, accept_connections
from djserve.net.address import TCPAddress
from djserve.net.courtesy import Courtesy
from djserve.net.descriptors import DescriptorWatch
from djserve.net.main_loop import new_event_loop
from djserve.net.sockets import open_sockets
from djserve.net.twisted.reactor import Reactor
from tests.support.logs import own_records
from tests.support.waiting import settle, wait_until

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


def open_socket() -> tuple[socket.socket, int]:
    (sock,) = open_sockets(TCPAddress("127.0.0.1", 0), backlog=50)
    return sock, sock.getsockname()[1]


@contextlib.contextmanager
def no_free_descriptors() -> Iterator[None]:
    """Use up the descriptors that the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class WatchedSocket(socket.socket):
    """A listening socket that knows when somebody tried to accept from it."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float]) -> None:
        super().__init__(fileno=sock.detach())
        self.tries: list[float] = []
        self._clock = clock

    def accept(self) -> Any:
        self.tries.append(self._clock())
        return super().accept()


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_accepting_begins_before_the_loop_runs(is_uvloop: bool) -> None:
    loop = new_event_loop(prefer_uvloop=is_uvloop)
    sock, port = open_socket()
    close = accept_connections(loop, sock, Greeter, backlog=50).close

    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.setblocking(False)
        data = loop.run_until_complete(loop.sock_recv(client, 10))

    close()
    close()
    loop.run_until_complete(settle())
    loop.close()
    assert data == b"hello"


class CountingCourtesy(Courtesy):
    """One that counts, and notes how many connections there were each time."""

    def __init__(self, count_held: Callable[[], int]) -> None:
        super().__init__(count_held)
        self.found: list[int] = []
        self._count = count_held

    def connection_accepted(self) -> None:
        self.found.append(self._count())


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_courtesy_is_told_of_connections_one_by_one(is_uvloop: bool) -> None:
    made: list[object] = []

    class Held(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.append(transport)

    async def all_made() -> None:
        await wait_until(lambda: len(made) == 24)
        for transport in made:
            cast("asyncio.Transport", transport).abort()
        close()
        await settle()

    loop = new_event_loop(prefer_uvloop=is_uvloop)
    sock, port = open_socket()
    courtesy = CountingCourtesy(lambda: len(made))
    close = accept_connections(loop, sock, Held, backlog=50, courtesy=courtesy).close
    with contextlib.ExitStack() as stack:
        for _ in range(24):
            address = ("127.0.0.1", port)
            stack.enter_context(socket.create_connection(address, 60))
        loop.run_until_complete(all_made())
    loop.close()

    assert len(courtesy.found) == 24
    # Each is known to be there a turn later, or two by asyncio; four come in a turn.
    late = 3 if is_uvloop else 7
    assert all(0 <= i - found <= late for i, found in enumerate(courtesy.found))


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_several_are_accepted_in_a_turn_of_the_loop(is_uvloop: bool) -> None:
    turns = 0
    accepted: list[int] = []

    class Counted(Courtesy):
        def connection_accepted(self) -> None:
            accepted.append(turns)

    async def count_turns() -> None:
        nonlocal turns
        while len(accepted) < 12:
            turns += 1
            await asyncio.sleep(0)
        close()
        await settle()

    loop = new_event_loop(prefer_uvloop=is_uvloop)
    sock, port = open_socket()
    courtesy = Counted(lambda: 0)
    close = accept_connections(loop, sock, Greeter, backlog=50, courtesy=courtesy).close
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            address = ("127.0.0.1", port)
            stack.enter_context(socket.create_connection(address, 60))
        loop.run_until_complete(asyncio.wait_for(count_turns(), 60))
    loop.close()

    assert list(Counter(accepted).values()) == [4, 4, 4]


def test_listener_survives_a_shortage_of_descriptors(
    run_on_reactor: Run,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_DELAY", 0.05)

    async def scenario(reactor: Reactor) -> None:
        sock, port = open_socket()
        close = accept_connections(reactor.loop, sock, Greeter, backlog=50).close
        waiting = [socket.socket() for _ in range(5)]
        with no_free_descriptors():
            for client in waiting:
                client.connect(("127.0.0.1", port))
            await settle(100)
        for client in waiting:
            client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"hello"
        writer.close()
        close()

    with caplog.at_level(logging.WARNING):
        run_on_reactor(scenario)

    assert len(own_records(caplog)) <= 1
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_uvloop_turns_away_whom_it_cannot_accept() -> None:
    async def scenario() -> list[bytes]:
        loop = asyncio.get_running_loop()
        sock, port = open_socket()
        close = accept_connections(loop, sock, Greeter, backlog=50).close
        with contextlib.ExitStack() as opened:
            waiting = [opened.enter_context(socket.socket()) for _ in range(5)]
            with no_free_descriptors():
                for client in waiting:
                    client.connect(("127.0.0.1", port))
                    client.setblocking(False)
                # None is left in the queue, which would wake the loop for ever.
                ends = [await loop.sock_recv(client, 10) for client in waiting]
        close()
        return ends

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(scenario()) == [b""] * 5


def test_uvloop_leaves_them_in_the_queue_until_the_shortage_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_DELAY", 0.05)

    async def scenario() -> list[list[bytes]]:
        loop = asyncio.get_running_loop()
        sock, port = open_socket()
        watch = DescriptorWatch()
        accepting = accept_connections(
            loop, sock, Greeter, backlog=50, descriptors=watch
        )

        async def ask(*, is_told: bool) -> list[bytes]:
            with contextlib.ExitStack() as opened:
                waiting = [opened.enter_context(socket.socket()) for _ in range(9)]
                with no_free_descriptors():
                    if is_told:
                        watch.tick(100.0)
                    for client in waiting:
                        client.connect(("127.0.0.1", port))
                        client.setblocking(False)
                    await settle(100)
                return [await loop.sock_recv(client, 10) for client in waiting]

        answers = [await ask(is_told=True)]
        watch.tick(161.0)
        answers.append(await ask(is_told=False))
        accepting.close()
        accepting.close()
        return answers

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(scenario()) == [[b"hello"] * 9, [b""] * 9]


def test_uvloop_rests_in_a_shortage_that_has_taken_its_spare_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_DELAY", 0.05)

    async def scenario() -> tuple[float, bytes]:
        loop = asyncio.get_running_loop()
        sock, port = open_socket()
        watch = DescriptorWatch()
        accepting = accept_connections(
            loop, sock, Greeter, backlog=50, descriptors=watch
        )
        with socket.socket() as client:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            # The spare is closed, and its own number cannot be used again.
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
            try:
                client.connect(("127.0.0.1", port))
                client.setblocking(False)
                await settle(100)
                watch.tick(100.0)
                before = time.thread_time()
                await asyncio.sleep(0.5)
                spent = time.thread_time() - before
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            answer = await loop.sock_recv(client, 10)
        accepting.close()
        return spent, answer

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        spent, answer = runner.run(scenario())

    assert answer == b"hello"
    # Without the rest, all of the time.
    assert spent < 0.1


def test_accepting_rests_in_a_shortage_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_DELAY", 0.05)
    loop = new_event_loop(prefer_uvloop=False)
    sock, port = open_socket()
    watched = WatchedSocket(sock, loop.time)
    close = accept_connections(loop, watched, Greeter, backlog=50).close
    with socket.socket() as client, no_free_descriptors():
        client.connect(("127.0.0.1", port))
        loop.run_until_complete(wait_until(lambda: len(watched.tries) >= 4))
        close()
    loop.close()

    rests = [after - before for before, after in pairwise(watched.tries)]
    assert min(rests) > 0.049
    assert len(own_records(caplog)) == 1


def test_few_are_accepted_in_a_turn_after_a_shortage_until_none_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_DELAY", 0.05)
    turns = 0
    accepted: list[int] = []

    def count(connection: socket.socket, address: object) -> None:
        connection.close()
        accepted.append(turns)

    async def count_turns(total: int) -> None:
        nonlocal turns
        async with asyncio.timeout(60):
            while len(accepted) < total:
                turns += 1
                await asyncio.sleep(0)

    loop = new_event_loop(prefer_uvloop=False)
    sock, port = open_socket()
    watched = WatchedSocket(sock, loop.time)
    accepting = AcceptLoop(loop, watched, count)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(25)]
        with no_free_descriptors():
            for client in clients[:13]:
                client.connect(("127.0.0.1", port))
            loop.run_until_complete(wait_until(lambda: watched.tries))
        loop.run_until_complete(count_turns(13))
        for client in clients[13:]:
            client.connect(("127.0.0.1", port))
        loop.run_until_complete(count_turns(25))
    accepting.close()
    loop.close()

    assert list(Counter(accepted).values()) == [4, 4, 4, 1, 12]


@pytest.mark.parametrize("takes_waiting", [False, True])
def test_closing_in_a_shortage_ends_the_retries(
    monkeypatch: pytest.MonkeyPatch, takes_waiting: bool
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_DELAY", 0.05)
    faults: list[object] = []
    loop = new_event_loop(prefer_uvloop=False)
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    sock, port = open_socket()
    watched = WatchedSocket(sock, loop.time)
    accepting = accept_connections(loop, watched, Greeter, backlog=50)
    with socket.socket() as client, no_free_descriptors():
        client.connect(("127.0.0.1", port))
        loop.run_until_complete(wait_until(lambda: watched.tries))
        if takes_waiting:
            accepting.take_waiting(50)
        accepting.close()
    tries = len(watched.tries)
    # A timer that were left would be due before this one.
    loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()

    assert (len(watched.tries), faults) == (tries, [])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 60)


def test_accepted_connection_sends_without_delay(run_on_reactor: Run) -> None:
    options: list[int] = []

    class Probe(Greeter):
        def connection_made(self, transport: Any) -> None:
            sock = transport.get_extra_info("socket")
            options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    async def scenario(reactor: Reactor) -> None:
        sock, port = open_socket()
        close = accept_connections(reactor.loop, sock, Probe, backlog=50).close
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()
        writer.close()
        close()

    run_on_reactor(scenario)

    assert options == [1]
