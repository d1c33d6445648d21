"""The table of WebSocket faults in docs/explanation/behaviour.md."""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from djserve.testing.live import LiveServer
from tests.e2e.clients import CLOSE as CLOSE_FRAME
from tests.e2e.clients import ask_for_websocket

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
ACCEPT = {"type": "websocket.accept"}

Send = Callable[[dict[str, Any]], Awaitable[None]]


def raises() -> None:
    raise ValueError("fault")


def messages(*sent: dict[str, Any]) -> Callable[[Send], Awaitable[None]]:
    """Return a fault that sends messages one after the other."""

    async def fault(send: Send) -> None:
        for message in sent:
            await send(message)

    return fault


async def raise_at_once(send: Send) -> None:
    raises()


async def raise_when_accepted(send: Send) -> None:
    await send(ACCEPT)
    raises()


def accepted(**message: Any) -> Callable[[Send], Awaitable[None]]:
    """Return a fault that accepts and sends one message."""
    return messages(ACCEPT, {"type": "websocket.send", **message})


def fields(*pairs: Any) -> Callable[[Send], Awaitable[None]]:
    """Return a fault that accepts with header fields."""
    return messages({**ACCEPT, "headers": list(pairs)})


CLOSE = {"type": "websocket.close"}

FAULTS: dict[str, list[Callable[[Send], Awaitable[None]]]] = {
    "returns before it has accepted": [messages()],
    "raises, or sends `websocket.send`, before it has accepted": [
        raise_at_once,
        messages({"type": "websocket.send", "text": "early"}),
    ],
    "accepts with header fields that are no pairs of bytes": [
        fields((b"a", "b")),
        fields(("a", b"b")),
        fields(b"a"),
    ],
    "accepts with CR or LF in a header field": [
        fields((b"a", b"b\r\nc: d")),
        fields((b"a", b"b\nc: d")),
        fields((b"a\r\nb", b"c")),
    ],
    "accepts a subprotocol that the client has not offered": [
        messages({**ACCEPT, "subprotocol": "chat"})
    ],
    "closes before it has accepted": [messages(CLOSE)],
    "returns after it has accepted": [messages(ACCEPT)],
    "raises after it has accepted, or accepts twice": [
        raise_when_accepted,
        messages(ACCEPT, ACCEPT),
    ],
    "sends a text that is bytes, or bytes that are a text": [
        accepted(text=b"bytes"),
        accepted(bytes="text"),
    ],
    "sends neither text nor bytes": [accepted(), accepted(text=None, bytes=None)],
    "sends both": [accepted(text="text", bytes=b"bytes")],
    "sends a message of an unknown type, or one of HTTP": [
        messages(ACCEPT, {"type": "websocket.unknown"}),
        messages(ACCEPT, {"type": "http.response.start", "status": 200}),
    ],
    "closes with a code that no Close frame may carry": [
        messages(ACCEPT, {**CLOSE, "code": code}) for code in (0, 999, 1005, 1006, 5000)
    ],
    "closes with a reason of over 123 bytes": [
        messages(ACCEPT, {**CLOSE, "code": 1000, "reason": "r" * 200})
    ],
    "sends text with a lone surrogate": [accepted(text="\ud800")],
    "sends after it has closed, or closes twice": [
        messages(ACCEPT, CLOSE, {"type": "websocket.send", "text": "late"}),
        messages(ACCEPT, CLOSE, CLOSE),
    ],
}


def read_table() -> dict[str, str]:
    """Return the documented outcomes: the fault, and what comes of it."""
    text = (ROOT / "docs" / "explanation" / "behaviour.md").read_text()
    _, _, rest = text.partition("### Faults on a WebSocket\n")
    section = rest.partition("\n#")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", section, re.M)
    return dict(rows[2:])


CASES = [
    pytest.param(fault, outcome, id=f"{title} {number}")
    for title, outcome in read_table().items()
    for number, fault in enumerate(FAULTS[title])
]


async def commit(scope: Any, receive: Any, send: Send) -> None:
    """Commit the fault that the path names by its place in the table."""
    if scope["type"] != "websocket":
        raise NotImplementedError
    await receive()
    fault: Any = CASES[int(scope["path"][1:])].values[0]
    await fault(send)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(commit) as live:
        yield live


def read_outcome(port: int, path: str) -> str:
    """Open a WebSocket; return the status of a refusal, or the Close frame's code."""
    with ask_for_websocket(port, path) as client, client.makefile("rb") as stream:
        status = stream.readline().split()[1].decode()
        if status != "101":
            return status
        while stream.readline() != b"\r\n":
            pass
        head = stream.read(2)
        if head[:1] != b"\x88":
            return "cut"
        code, reason = stream.read(2), stream.read(head[1] - 2)
        client.sendall(CLOSE_FRAME)
        assert stream.read() == b""
    shortened = ", the reason shortened" if len(reason) == 123 else ""
    return f"{struct.unpack('!H', code)[0]}{shortened}"


def test_every_row_of_the_table_is_driven() -> None:
    assert read_table().keys() == FAULTS.keys()


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        pytest.param(number, case.values[1], id=case.id)
        for number, case in enumerate(CASES)
    ],
)
def test_fault_has_its_documented_outcome(
    server: LiveServer, number: int, outcome: str
) -> None:
    assert read_outcome(server.port, f"/{number}") == outcome
