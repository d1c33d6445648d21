"""The wire side has what the exchange asks for; mypy compares signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.asgi import websocket_types
from djserve.conf.schema import WebSocketConfig
from djserve.protocols.websocket.connection import WebSocketConnection
from djserve.protocols.websocket.handshake import Handshake

if TYPE_CHECKING:
    from djserve.asgi.websocket_types import Connection, Observer, OpeningHandshake


class SilentObserver:
    def message_received(self, data: str | bytes) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def public_names(interface: type) -> set[str]:
    return {name for name in dir(interface) if not name.startswith("_")}


def test_handshake_is_what_the_exchange_accepts() -> None:
    handshake: OpeningHandshake = Handshake(None)
    observer: Observer = SilentObserver()
    connection: Connection
    fields, connection = handshake.accept(
        observer, WebSocketConfig(), subprotocol=None, headers=(), write_timeout=30.0
    )

    assert fields == []
    assert public_names(websocket_types.Connection) <= public_names(type(connection))


def test_connection_has_each_method_that_is_asked_for() -> None:
    asked = public_names(websocket_types.Connection)

    assert asked <= public_names(WebSocketConnection)
    assert {"attach", "send_text", "close", "tick", "drain"} <= asked
