"""Each limit that a client reaches is counted under its setting by a running server."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest

from djserve.instrumentation.limits import LIMITS, limits_reached
from djserve.protocols.http2 import frames
from djserve.testing.live import LiveServer
from tests.e2e.clients import HANDSHAKE, connect, open_websocket
from tests.protocols.http2.conftest import Wire
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

# What Django's handler alone decides; test_limits of instrumentation has them.
OF_THE_HANDLER = {
    "BODY_TIME_LIMIT",
    "THREAD_QUEUE_LIMIT",
    "THREAD_WAIT_TIMEOUT",
    "UPLOAD_DISK_LIMIT",
}

ASK = b"GET /wait HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /wait HTTP/1.1\r\nHost: a\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Accept WebSockets but at /wait, send much at /much, else wait for the end."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    with suppress(OSError):
        if scope["type"] == "websocket" and scope["path"] != "/wait":
            await receive()
            await send({"type": "websocket.accept"})
        if scope["path"] == "/much":
            await send({"type": "http.response.start", "status": 200})
            part = {"type": "http.response.body", "body": bytes(10**6)}
            while True:
                await send({**part, "more_body": True})
                await asyncio.sleep(0)
    while not (await receive())["type"].endswith("disconnect"):
        pass


def say(*pieces: bytes, twice: bool = False) -> Callable[[int], Any]:
    """Send bytes on a connection, or on two."""

    @contextmanager
    def attack(port: int) -> Iterator[None]:
        with connect(port) as first, connect(port) as second:
            for sock in (first, second)[: 1 + twice]:
                with suppress(ConnectionError):
                    sock.sendall(b"".join(pieces))
            yield

    return attack


def say_on_websocket(data: bytes) -> Callable[[int], Any]:
    @contextmanager
    def attack(port: int) -> Iterator[None]:
        with open_websocket(port) as sock:
            with suppress(ConnectionError):
                sock.sendall(data)
            yield

    return attack


def http2(build: Callable[[Wire], bytes]) -> Callable[[int], Any]:
    wire = Wire()
    opening = frames.PREFACE + wire.frame(frames.SETTINGS, 0, 0)
    return say(opening + wire.frame(frames.SETTINGS, 1, 0) + build(wire))


def reset_streams(wire: Wire) -> bytes:
    numbers = range(1, 99, 2)
    return b"".join(wire.headers(one) + wire.reset(one) for one in numbers)


def divide_head(wire: Wire) -> bytes:
    rest = wire.frame(frames.CONTINUATION, 0, 1, b"\x82")
    return wire.frame(frames.HEADERS, 0, 1, b"\x82") + rest * 5


class Case(NamedTuple):
    setting: str
    value: Any
    attack: Callable[[int], Any]
    others: dict[str, Any] = {}


LARGE_FRAME = b"\x82\xff" + struct.pack("!Q", 500_000) + bytes(4)
CASES = (
    Case("REQUEST_LINE_LIMIT", 64, say(b"GET /", b"a" * 99, b" HTTP/1.1\r\n\r\n")),
    Case("HEADER_SIZE_LIMIT", 256, say(ASK, b"X: ", b"a" * 999, b"\r\n\r\n")),
    Case("HEADER_COUNT_LIMIT", 2, say(ASK, b"X: a\r\n" * 3, b"\r\n")),
    Case("HEADER_TIMEOUT", 0.05, say(ASK)),
    Case("BODY_SIZE_LIMIT", 9, say(POST, b"Content-Length: 10\r\n\r\n")),
    Case(
        "BODY_MIN_RATE",
        240,
        say(POST, b"Content-Length: 10\r\n\r\n"),
        {"BODY_TIMEOUT": 0.05},
    ),
    Case("REQUEST_TIMEOUT", 0.05, say(ASK, b"\r\n")),
    Case(
        "WRITE_TIMEOUT", 0.05, say(ASK.replace(b"wait", b"much"), b"\r\n", twice=True)
    ),
    Case("CONNECTION_LIMIT", 1, say(ASK, b"\r\n", twice=True)),
    Case(
        "CLIENT_MEMORY_LIMIT",
        65536,
        say_on_websocket(LARGE_FRAME + bytes(400_000)),
    ),
    Case("HTTP2_RESET_LIMIT", 5, http2(reset_streams)),
    Case(
        "HTTP2_CONTROL_FRAME_LIMIT",
        16,
        http2(lambda wire: wire.frame(frames.PING, 0, 0, bytes(8)) * 99),
    ),
    Case("HTTP2_FRAGMENT_LIMIT", 2, http2(divide_head)),
    Case(
        "HTTP2_STREAM_LIMIT",
        1,
        http2(
            lambda wire: wire.headers(1, path=b"/wait") + wire.headers(3, path=b"/wait")
        ),
    ),
    Case(
        "HTTP2_CALL_LIMIT",
        1,
        http2(
            lambda wire: wire.headers(1, path=b"/wait") + wire.headers(3, path=b"/wait")
        ),
    ),
    Case(
        "WEBSOCKET_CONNECT_TIMEOUT",
        0.05,
        say(b"GET /wait HTTP/1.1\r\n", HANDSHAKE),
    ),
    Case("WEBSOCKET_MESSAGE_SIZE_LIMIT", 1000, say_on_websocket(LARGE_FRAME)),
    Case(
        "WEBSOCKET_SMALL_FRAME_LIMIT",
        5,
        say_on_websocket(b"\x89\x80\0\0\0\0" * 20),
    ),
)


def test_each_limit_has_its_case() -> None:
    assert {case.setting for case in CASES} | OF_THE_HANDLER == set(LIMITS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.setting)
def test_reached_limit_is_counted(case: Case) -> None:
    settings = {"HTTP2_CLEARTEXT": "on", case.setting: case.value, **case.others}
    with LiveServer(application, settings=settings) as server:
        before = dict(limits_reached())
        with case.attack(server.port):
            deadline = time.monotonic() + PATIENCE
            while limits_reached()[case.setting] == before[case.setting]:
                assert time.monotonic() < deadline, "nothing was counted"
                time.sleep(0.01)
