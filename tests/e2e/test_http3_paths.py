"""HTTP/3 on bad networks: loss, disorder, new addresses, floods, restarted servers."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from tests.conftest import find_free_port, server_starter
from tests.e2e.http3_client import Client, Response, open_client
from tests.e2e.http3_server import Server, fill, serve_folder
from tests.e2e.lossy_path import LossyPath

pytestmark = pytest.mark.e2e

BLOCK = 65536
UPLOAD = Random(2).randbytes(2 * BLOCK)
DOWNLOADED_BLOCKS = 4

# Begun handshakes cost some tens of kilobytes each until they are given up.
FLOOD = 200
MEMORY_LIMIT = 48 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests that leave it as it was."""
    folder = fill(tmp_path_factory.mktemp("http3"), trustme.CA())
    with server_starter(folder) as start:
        yield serve_folder(start, folder, find_free_port())


@asynccontextmanager
async def connect(
    server: Server, **path: Any
) -> AsyncIterator[tuple[Client, LossyPath]]:
    """Give a client and the path on which it reaches the server."""
    ca = server.folder / "ca.pem"
    async with (
        LossyPath(server.port, **path) as way,
        open_client(way.port, ca) as client,
    ):
        yield client, way


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def expected_blocks() -> bytes:
    blocks = Random(1)
    return b"".join(blocks.randbytes(BLOCK) for _ in range(DOWNLOADED_BLOCKS))


def check(up: Response, down: Response, small: list[Response]) -> None:
    assert up.content == digest(UPLOAD)
    assert digest(bytes(down.content)) == digest(expected_blocks())
    assert [each.content for each in small] == [b"/%d" % i for i in range(len(small))]


def test_content_survives_loss_repetition_and_disorder(server: Server) -> None:
    async def load() -> LossyPath:
        bad = {"loss": 0.05, "repeats": 0.05, "delays": 0.1}
        async with connect(server, **bad) as (client, way):
            up = client.request("/digest", method="POST", content=UPLOAD)
            down = client.request(f"/blocks?{DOWNLOADED_BLOCKS}")
            small = [client.request(f"/{number}") for number in range(10)]
            check(
                await client.answer(up),
                await client.answer(down),
                [await client.answer(stream_id) for stream_id in small],
            )
            return way

    way = asyncio.run(load())
    assert min(way.counts.values()) > 2, way.counts


@pytest.mark.parametrize("changes_id", [False, True])
def test_client_that_moves_keeps_its_connection(
    server: Server, changes_id: bool
) -> None:
    """RFC 9000 section 9: by a new id, or unnoticed by the client (NAT rebinding)."""

    async def load() -> LossyPath:
        async with connect(server) as (client, way):
            up = client.request("/digest", method="POST", content=UPLOAD)
            down = client.request(f"/blocks?{DOWNLOADED_BLOCKS}")
            for part in (1, 2, 3):
                content = client.responses[down].content
                reached = part * DOWNLOADED_BLOCKS * BLOCK // 4
                await client.wait_until(partial(has_come, content, reached))
                await way.move()
                if changes_id:
                    client.change_connection_id()
            small = [client.request(f"/{number}") for number in range(5)]
            check(
                await client.answer(up),
                await client.answer(down),
                [await client.answer(stream_id) for stream_id in small],
            )
            assert client.terminated is None
            return way

    assert len(set(asyncio.run(load()).addresses)) == 4


def has_come(content: bytearray, size: int) -> bool:
    return len(content) >= size


def test_any_address_of_the_machine_answers(
    tmp_path: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    """From the one that was asked: clients take nothing from another."""
    folder = fill(tmp_path, trustme.CA())
    server = serve_folder(start_server, folder, free_port, host="0.0.0.0")

    async def ask() -> tuple[bytes, bytes]:
        async with open_client(
            server.port, folder / "ca.pem", host="127.0.0.2"
        ) as client:
            server_address = await client.fetch("/server")
            down = await client.fetch(f"/blocks?{DOWNLOADED_BLOCKS}")
            return bytes(server_address.content), bytes(down.content)

    address, content = asyncio.run(ask())
    assert address == f"127.0.0.2 {server.port}".encode()
    assert content == expected_blocks()


def test_restarted_server_disowns_connections(
    tmp_path: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    """RFC 9000 section 10.3: the client need not wait for its own timeout."""
    folder = fill(tmp_path, trustme.CA())
    server = serve_folder(start_server, folder, free_port)

    async def restart() -> tuple[bytes, bytes]:
        async with connect(server) as (client, way):
            await client.fetch("/")
            token = client._quic._peer_cid.stateless_reset_token
            server.process.process.send_signal(signal.SIGKILL)
            server.process.process.wait()
            await asyncio.to_thread(
                serve_folder, start_server, server.folder, server.port
            )
            way.answers.clear()

            def has_asked() -> bool:
                client._quic.send_ping(1)
                client.transmit()
                return bool(way.answers)

            await client.wait_until(has_asked)
            return way.answers[0], token

    answer, token = asyncio.run(restart())
    assert answer[0] & 0xC0 == 0x40
    assert answer[-16:] == token


def first_datagram(port: int) -> bytes:
    """Return what a client begins with, which will send nothing else."""
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", port), now=0.0)
    return client.datagrams_to_send(now=0.0)[0][0]


def resident_size(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_flood_of_handshakes_leaves_room_for_clients(server: Server) -> None:
    async def flood() -> int:
        async with open_client(server.port, server.folder / "ca.pem") as client:
            await client.fetch("/")
            await asyncio.to_thread(server.process.finish_imports, tls=True)
            before = resident_size(server.process.process.pid)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for number in range(FLOOD):
                    sock.sendto(first_datagram(server.port), ("127.0.0.1", server.port))
                    if number % 50 == 49:
                        # One that is there already, and a new one.
                        assert (await client.fetch("/a")).content == b"/a"
                        content = await asyncio.to_thread(
                            server.talk, lambda new: new.fetch("/b")
                        )
                        assert content.content == b"/b"
            return resident_size(server.process.process.pid) - before

    assert asyncio.run(flood()) < MEMORY_LIMIT
