"""HTTP/3 by several workers: clients that move, restarts under load, the end."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from aioquic._buffer import Buffer
from aioquic.h3.connection import ErrorCode, FrameType
from aioquic.quic.events import QuicEvent, StreamDataReceived

from tests.e2e.http3_client import Client, open_client
from tests.e2e.lossy_path import LossyPath
from tests.e2e.open_python import start_for
from tests.e2e.workers import DEADLINE, start_workers, wait_for

pytestmark = pytest.mark.e2e

APPLICATION = """
import asyncio
import os

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body")
    await asyncio.sleep(0.01)
    body = b"%d %d" % (os.getpid(), size)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
"""

# The server's first unidirectional stream.
CONTROL_STREAM = 3
RELOADS = 5
CLIENTS = 3
CONCURRENCY = 4


class HeedingClient(Client):
    """A client that heeds GOAWAY, which aioquic's HTTP/3 skips."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.control = bytearray()
        self.last_id: int | None = None
        """The first request that is not taken, once the server has said so."""

    @property
    def is_open(self) -> bool:
        return self.last_id is None and self.terminated is None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id == CONTROL_STREAM:
            self.control += event.data
            self.last_id = find_goaway(bytes(self.control[1:]))
        super().quic_event_received(event)


def find_goaway(data: bytes) -> int | None:
    """Return what the last GOAWAY on a control stream has said, None if there is none.

    The server's frames are short, and come whole.
    """
    buffer, found = Buffer(data=data), None
    while not buffer.eof():
        kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
        payload = Buffer(data=buffer.pull_bytes(length))
        if kind == FrameType.GOAWAY:
            found = payload.pull_uint_var()
    return found


class Workers:
    """A server of two workers, and the authority of its certificate."""

    def __init__(self, server: Any, ca: Path, port: int) -> None:
        self.server = server
        self.ca = ca
        self.port = port

    def connect(self, port: int | None = None) -> Any:
        return open_client(port or self.port, self.ca, HeedingClient)


def fill(folder: Path) -> list[str]:
    """Put the application and its certificate into a folder; return the options."""
    (folder / "app.py").write_text(APPLICATION)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    options = ["--http3", "--certfile", str(folder / "cert.pem")]
    return [*options, "--pid-file", str(folder / "pid")]


@pytest.fixture
def workers(
    start_server: Callable[..., Any], tmp_path: Path, free_port: int
) -> Workers:
    options = fill(tmp_path)
    env = {"TMPDIR": str(tmp_path)}
    server = start_workers(start_server, tmp_path, free_port, *options, env=env)
    return Workers(server, tmp_path / "ca.pem", free_port)


@pytest.fixture
def workers_of_nobody(
    start_server: Callable[..., Any], open_folder: Path, free_port: int
) -> Workers:
    """Workers of another user, who cannot use the folder for temporary files."""
    options = fill(open_folder)
    own = open_folder / "own"
    own.mkdir(0o700)
    env = {"TMPDIR": str(own)}
    start = partial(start_for, "nobody", start_server, open_folder, free_port)
    server = start(*options, env=env)
    return Workers(server, open_folder / "ca.pem", free_port)


def test_both_workers_serve(workers: Workers) -> None:
    async def ask() -> int:
        async with workers.connect() as client:
            return int((await client.fetch("/")).content.split()[0])

    async def run() -> set[int]:
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(await ask())
        return pids

    assert workers.server.process.pid not in asyncio.run(run())


def move(workers: Workers) -> set[bytes]:
    """Return what a client is answered that changes its address ten times."""

    async def run() -> set[bytes]:
        answers: set[bytes] = set()
        async with (
            LossyPath(workers.port) as path,
            workers.connect(path.port) as client,
        ):
            # Each address is read by either worker.
            for _ in range(10):
                response = await client.fetch("/", method="POST", content=b"x" * 50_000)
                answers.add(bytes(response.content))
                await path.move()
            assert client.terminated is None
        return answers

    return asyncio.run(run())


def test_client_that_moves_is_found_by_its_worker(workers: Workers) -> None:
    (answer,) = move(workers)
    assert answer.endswith(b" 50000")


def test_clients_of_a_killed_worker_are_told(workers: Workers) -> None:
    """By a stateless reset of the other one (RFC 9000 section 10.3)."""

    async def run() -> tuple[bytes, bytes]:
        async with (
            LossyPath(workers.port) as path,
            workers.connect(path.port) as client,
        ):
            pid = int((await client.fetch("/")).content.split()[0])
            token = client._quic._peer_cid.stateless_reset_token
            assert token

            def has_asked() -> bool:
                client._quic.send_ping(1)
                client.transmit()
                return path.answers[-1].endswith(token)

            os.kill(pid, signal.SIGKILL)
            await client.wait_until(has_asked)
            return path.answers[-1], token

    answer, token = asyncio.run(run())
    assert answer[0] & 0xC0 == 0x40
    assert answer[-16:] == token


async def load(workers: Workers, seen: Counter[str], is_over: asyncio.Event) -> None:
    """Ask over one connection after the other, as the server wishes."""
    while not is_over.is_set():
        seen["connections"] += 1
        async with workers.connect() as client:
            await asyncio.gather(
                *(ask_on(client, seen, is_over) for _ in range(CONCURRENCY))
            )


async def ask_on(
    client: HeedingClient, seen: Counter[str], is_over: asyncio.Event
) -> None:
    while client.is_open:
        if is_over.is_set():
            return
        stream_id = client.request("/", method="POST", content=b"x" * 5000)
        response = await client.answer(stream_id)
        if response.is_complete and response.content.endswith(b" 5000"):
            seen["answered"] += 1
        elif response.reset == ErrorCode.H3_REQUEST_REJECTED:
            seen["rejected"] += 1
        elif client.last_id is not None and stream_id >= client.last_id:
            seen["not taken"] += 1
        else:
            seen["failed"] += 1


def find_folders(folder: Path) -> list[Path]:
    """Return where workers have the sockets by which they hand datagrams on."""
    return list(folder.glob("djserve-http3-*"))


def change_under_load(
    workers: Workers, change: Callable[[], None], times: int
) -> Counter[str]:
    """Return what became of requests while the workers were replaced, so many times."""

    def change_once(seen: Counter[str]) -> None:
        change()
        enough = seen["answered"] + 20
        wait_for(lambda: seen["answered"] >= enough)

    async def run() -> Counter[str]:
        seen, is_over = Counter[str](), asyncio.Event()
        clients = [
            asyncio.ensure_future(load(workers, seen, is_over)) for _ in range(CLIENTS)
        ]
        for _ in range(times):
            await asyncio.to_thread(change_once, seen)
        is_over.set()
        await asyncio.gather(*clients)
        return seen

    return asyncio.run(run())


def reload(workers: Workers) -> None:
    server = workers.server
    ended = server.output.count("has ended")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_for(lambda: server.output.count("has ended") >= ended + 2)


def test_reloads_fail_no_request(workers: Workers) -> None:
    seen = change_under_load(workers, partial(reload, workers), RELOADS)
    assert not seen["failed"], seen
    assert seen["connections"] > RELOADS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_workers_of_another_user_serve(workers_of_nobody: Workers) -> None:
    workers = workers_of_nobody
    (answer,) = move(workers)
    pid, size = answer.split()
    assert os.stat(f"/proc/{int(pid)}").st_uid == pwd.getpwnam("nobody").pw_uid
    assert size == b"50000"

    seen = change_under_load(workers, partial(reload, workers), 2)
    assert not seen["failed"], seen
    assert "serves no HTTP/3" not in workers.server.output


def test_upgrade_fails_no_request(workers: Workers, tmp_path: Path) -> None:
    process = workers.server.process

    def upgrade() -> None:
        os.kill(process.pid, signal.SIGUSR2)
        assert process.wait(DEADLINE) == 0

    seen = change_under_load(workers, upgrade, 1)
    successor = int((tmp_path / "pid").read_text())
    try:
        assert successor != process.pid
        assert not seen["failed"], seen
    finally:
        os.kill(successor, signal.SIGTERM)
    wait_for(lambda: not find_folders(tmp_path))


def test_request_under_way_survives_the_end_of_all(
    workers: Workers, tmp_path: Path
) -> None:
    async def run() -> bytes:
        async with workers.connect() as client:
            stream_id = client.request("/", method="POST", end=False)
            client.send(stream_id, b"x" * 1000)
            await client.fetch("/other")
            workers.server.process.send_signal(signal.SIGTERM)
            await client.wait_until(lambda: client.last_id is not None)
            client.send(stream_id, b"x" * 1000, end=True)
            response = await client.answer(stream_id)
            await client.closed()
            return bytes(response.content)

    assert asyncio.run(run()).endswith(b" 2000")
    assert workers.server.process.wait(DEADLINE) == 0
    assert not find_folders(tmp_path)
