from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from djserve.net.acceptor import accept_connections
from djserve.net.address import TCPAddress
from djserve.net.reactor import Reactor, new_event_loop
from djserve.net.sockets import open_sockets

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


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_accepting_begins_before_the_loop_runs(is_uvloop: bool) -> None:
    loop = new_event_loop(prefer_uvloop=is_uvloop)
    sock, port = open_socket()
    close = accept_connections(loop, sock, Greeter, backlog=50)

    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.setblocking(False)
        data = loop.run_until_complete(loop.sock_recv(client, 10))

    close()
    close()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert data == b"hello"


def test_listener_survives_a_shortage_of_descriptors(
    run_on_reactor: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(reactor: Reactor) -> None:
        sock, port = open_socket()
        close = accept_connections(reactor.loop, sock, Greeter, backlog=50)
        waiting = [socket.socket() for _ in range(5)]
        with no_free_descriptors():
            for client in waiting:
                client.connect(("127.0.0.1", port))
            started = time.process_time()
            await asyncio.sleep(0.3)
            spent = time.process_time() - started
        for client in waiting:
            client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"hello"
        assert spent < 0.2
        writer.close()
        close()

    with caplog.at_level(logging.WARNING):
        run_on_reactor(scenario)

    assert len(caplog.records) <= 1


def test_closing_in_a_shortage_ends_the_retries() -> None:
    loop = new_event_loop(prefer_uvloop=False)
    sock, port = open_socket()
    close = accept_connections(loop, sock, Greeter, backlog=50)
    with socket.socket() as client, no_free_descriptors():
        client.connect(("127.0.0.1", port))
        loop.run_until_complete(asyncio.sleep(0.05))
        close()
    loop.run_until_complete(asyncio.sleep(1.1))
    loop.close()

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
        close = accept_connections(reactor.loop, sock, Probe, backlog=50)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()
        writer.close()
        close()

    run_on_reactor(scenario)

    assert options == [1]
