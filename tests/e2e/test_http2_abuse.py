"""HTTP/2 under attack, over real sockets: the answer, the memory, and everyone else.

Each attack is bytes on a connection of its own. Afterwards a new connection has to be
served within a second of the server's own processor time, and its resident memory must
not have grown much.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hpack import Encoder

from djserve.asgi.types import Receive, Scope, Send
from djserve.protocols.http2 import frames
from djserve.protocols.http2.frames import pack_header
from djserve.server.factory import ConnectionFactory
from djserve.testing.live import LiveServer
from tests.conftest import processor_seconds
from tests.support.turns import TurnCounts

pytestmark = pytest.mark.e2e

# 100 streams hold 16 KiB and a message of 64 KiB each: 8 MiB.
GROWTH_LIMIT = 10 << 20
PATIENCE = 120.0

CALM, REFUSED, TIMEOUT = 0xB, 0x7, 0x4

APPLICATION = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/slow":
        await asyncio.sleep(3600)
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    size = 10_000_000 if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200})
    while size:
        part = b"x" * min(size, 65536)
        size -= len(part)
        await send({"type": "http.response.body", "body": part, "more_body": size > 0})
"""

FLAGS = [
    "--header-timeout", "2", "--write-timeout", "2", "--body-timeout", "2",
    "--http2-settings-timeout", "2", "--application-close-timeout", "2",
]  # fmt: skip


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return pack_header(len(payload), kind, flags, stream_id) + payload


def request(stream_id: int, path: str = "/", end: bool = True) -> bytes:
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a")]
    block = Encoder().encode([*fields, (":path", path)])
    return frame(frames.HEADERS, 0x4 | end, stream_id, block)


SETTINGS = frame(frames.SETTINGS, 0, 0)
ACK = frame(frames.SETTINGS, frames.ACK, 0)
OPENING = frames.PREFACE + SETTINGS + ACK


def number(value: int) -> bytes:
    return struct.pack(">L", value)


def rapid_reset(stream_id: int) -> bytes:
    return request(stream_id, "/slow") + frames.encode_reset(stream_id, 8)


def made_reset(stream_id: int) -> bytes:
    update = frame(frames.WINDOW_UPDATE, 0, stream_id, number(0))
    return request(stream_id, "/slow") + update


def window_of(size: int) -> bytes:
    return frame(frames.SETTINGS, 0, 0, struct.pack(">HL", 4, size))


LONG_FIELD = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000


class Attack(NamedTuple):
    """``head`` once, then ``each(n)`` for n up to ``times``.

    ``codes`` are the error codes that may end the connection (GOAWAY) or its streams
    (RST_STREAM); with ``body`` a response with that content is the answer.
    """

    name: str
    head: bytes
    each: Callable[[int], bytes]
    times: int
    codes: tuple[int, ...] = (CALM,)
    body: bytes = b""


ATTACKS = [
    Attack("rapid reset", OPENING, lambda n: rapid_reset(2 * n + 1), 50_000),
    Attack("made reset", OPENING, lambda n: made_reset(2 * n + 1), 50_000),
    Attack(
        "continuation flood",
        OPENING + frame(frames.HEADERS, 0, 1, b"\x82"),
        lambda n: frame(frames.CONTINUATION, 0, 1, b"\x82" * 16000),
        1000,
    ),
    Attack(
        "empty continuation flood",
        OPENING + frame(frames.HEADERS, 0, 1, b"\x82"),
        lambda n: frame(frames.CONTINUATION, 0, 1),
        200_000,
    ),
    Attack(
        "header bomb",
        OPENING,
        lambda n: frame(frames.HEADERS, 0x5, 2 * n + 1, LONG_FIELD + b"\xbe" * 12000),
        100,
    ),
    Attack("settings flood", OPENING, lambda n: window_of(65535), 200_000),
    Attack(
        "unknown settings flood",
        OPENING,
        lambda n: frame(
            frames.SETTINGS,
            0,
            0,
            b"".join(
                struct.pack(">HL", (n * 2000 + k) % 65000 + 100, 1) for k in range(2000)
            ),
        ),
        2000,
    ),
    Attack(
        "ping flood", OPENING, lambda n: frame(frames.PING, 0, 0, b"12345678"), 200_000
    ),
    Attack(
        "priority flood",
        OPENING,
        lambda n: frame(frames.PRIORITY, 0, 2 * n + 1, b"\0\0\0\0\x0f"),
        200_000,
    ),
    Attack(
        "priority update flood",
        OPENING,
        lambda n: frame(frames.PRIORITY_UPDATE, 0, 0, number(2 * n + 1) + b"u=0"),
        200_000,
    ),
    Attack(
        "window update flood",
        OPENING,
        lambda n: frame(frames.WINDOW_UPDATE, 0, 0, number(1)),
        200_000,
    ),
    Attack(
        "empty data flood",
        OPENING + request(1, "/read", end=False),
        lambda n: frame(frames.DATA, 0, 1),
        200_000,
    ),
    Attack(
        "stalled windows",
        OPENING + window_of(0),
        lambda n: request(2 * n + 1, "/large"),
        100,
    ),
    Attack(
        "one byte of window each",
        OPENING + window_of(1),
        lambda n: request(2 * n + 1, "/large"),
        100,
    ),
    Attack(
        "too many streams",
        OPENING,
        lambda n: request(2 * n + 1, "/slow"),
        5000,
        (REFUSED, CALM),
    ),
    Attack(
        "slow bodies",
        OPENING,
        lambda n: request(2 * n + 1, "/read", end=False),
        100,
        (),
        b"The content is too slow",
    ),
    Attack(
        "head without an end",
        OPENING + frame(frames.HEADERS, 0, 1, b"\x82"),
        lambda n: b"",
        1,
    ),
    Attack(
        "settings without acknowledgement",
        frames.PREFACE + SETTINGS + request(1, "/slow"),
        lambda n: b"",
        1,
        (TIMEOUT,),
    ),
]


class Answer:
    """What the server sent to an attacker."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = b""
        self.seconds = 0.0

    @property
    def found(self) -> list[tuple[int, int, bytes]]:
        """Each frame: its type, its stream, its payload."""
        data, found = self.received, []
        while len(data) >= 9:
            high, low, kind, _, stream_id = frames.unpack_header(data)
            end = 9 + (high << 16 | low)
            found.append((kind, stream_id, data[9:end]))
            data = data[end:]
        return found

    @property
    def codes(self) -> list[int]:
        codes = []
        for kind, _, payload in self.found:
            if kind == frames.GOAWAY:
                codes.append(int.from_bytes(payload[4:8], "big"))
            elif kind == frames.RST_STREAM:
                codes.append(int.from_bytes(payload[:4], "big"))
        return codes


def attack(port: int, plan: Attack, is_answered: Callable[[Answer], bool]) -> Answer:
    """Send the attack's bytes, until it is answered or the connection is gone."""
    answer, began = Answer(), time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(0.05)
        pending, n = plan.head, 0
        while time.monotonic() - began < PATIENCE:
            while n < plan.times and len(pending) < 65536:
                pending += plan.each(n)
                n += 1
            try:
                if pending:
                    size = sock.send(pending)
                    answer.sent += size
                    pending = pending[size:]
                if not take(sock, answer) or is_answered(answer):
                    break
            except ConnectionError:
                break
            except TimeoutError:
                continue
        with contextlib.suppress(OSError):
            # What is on its way already.
            for _ in range(5):
                take(sock, answer)
    answer.seconds = time.monotonic() - began
    return answer


def take(sock: socket.socket, answer: Answer) -> bool:
    """Read what there is; False at the end."""
    try:
        data = sock.recv(65536)
    except TimeoutError:
        return True
    answer.received += data
    return bool(data)


def fetch(server: Any) -> float:
    """Make a request on a new connection; return the processor time it took."""
    port, pid = server.port, server.process.pid
    began = processor_seconds(pid)
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(OPENING + request(1))
        received = b""
        while b"xx" not in received:
            data = sock.recv(65536)
            assert data
            received += data
    return processor_seconds(pid) - began


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.fixture
def server(tmp_path: Path, start_server: Callable[..., Any], free_port: int) -> Any:
    (tmp_path / "application.py").write_text(APPLICATION)
    return start_server(
        "-m",
        "djserve",
        "application:app",
        "--bind",
        f"127.0.0.1:{free_port}",
        *FLAGS,
        port=free_port,
        env={"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": ""},
    )


@pytest.mark.parametrize("plan", ATTACKS, ids=lambda plan: plan.name)
def test_attack(
    plan: Attack, server: Any, record_property: Callable[[str, object], None]
) -> None:
    def is_answered(answer: Answer) -> bool:
        if plan.body:
            return answer.received.count(plan.body) >= plan.times
        codes = [code for code in answer.codes if code in plan.codes]
        return len(codes) >= (plan.times if plan.times <= 100 else 201)

    server.finish_imports()
    for _ in range(20):
        fetch(server)
    before = memory(server.process.pid)
    answer = attack(server.port, plan, is_answered)
    growth = memory(server.process.pid) - before
    delay = min(fetch(server) for _ in range(2))

    report = (
        f"{plan.name}: sent {answer.sent} bytes, got {len(answer.received)}, "
        f"codes {sorted(set(answer.codes))}, {answer.seconds:.1f} s, "
        f"memory {growth / 1024:+.0f} KiB, next connection {delay * 1000:.0f} ms"
    )
    print(report)
    record_property("report", report)
    if plan.body:
        assert plan.body in answer.received
    else:
        assert set(answer.codes) & set(plan.codes), report
    assert growth < GROWTH_LIMIT, report
    assert delay < 1.0, report


async def unasked(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("No request that is refused may come here")


def test_refused_requests_leave_turns_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = TurnCounts()
    turns.count_calls(monkeypatch, ConnectionFactory, "request_refused")
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    block = Encoder().encode([*fields, (":authority", "a b")])
    heads = [frame(frames.HEADERS, 0x5, 2 * n + 1, block) for n in range(500)]
    with (
        LiveServer(unasked, settings={"LIFESPAN": "off"}) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        sock.sendall(OPENING + b"".join(heads))
        while turns.total < 500:
            assert sock.recv(65536)

    assert turns.most <= 64
