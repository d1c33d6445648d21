"""The wire side has what the exchange asks for; mypy compares signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.asgi import websocket_types
from djserve.conf.schema import WebSocketConfig
from djserve.protocols.websocket.connection import WebSocketConnection
from djserve.protocols.websocket.handshake import Handshake
from djserve.testing.transport import MemoryTransport

if TYPE_CHECKING:
    from djserve.asgi.websocket_types import Connection, Observer, OpeningHandshake


class Exchange:
    """What an exchange is to the connection; it notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def message_received(self, data: str | bytes) -> None:
        self.told.append(data)

    def closed(self, code: int, reason: str) -> None:
        self.told.append((code, reason))

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


def public_names(interface: type) -> set[str]:
    return {name for name in dir(interface) if not name.startswith("_")}


def test_accepted_handshake_carries_messages_between_exchange_and_client() -> None:
    handshake: OpeningHandshake = Handshake(None)
    exchange = Exchange()
    observer: Observer = exchange
    connection: Connection
    fields, connection = handshake.accept(
        observer, WebSocketConfig(), subprotocol=None, headers=(), write_timeout=30.0
    )
    transport = MemoryTransport(connection)
    connection.attach(transport)

    connection.send_text("a")
    connection.send_binary(b"b")
    transport.feed(b"\x81\x81\0\0\0\0c")
    connection.close(1000, "")
    transport.feed(b"\x88\x82\0\0\0\0\x03\xe8")

    assert fields == []
    assert transport.take() == b"\x81\x01a\x82\x01b\x88\x02\x03\xe8"
    assert exchange.told == ["c", (1000, "")]


def test_connection_has_each_method_that_is_asked_for() -> None:
    asked = public_names(websocket_types.Connection)

    assert asked <= public_names(WebSocketConnection)
    assert {"attach", "send_text", "close", "tick", "drain"} <= asked
