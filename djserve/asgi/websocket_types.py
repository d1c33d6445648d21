"""What a WebSocketExchange asks of its neighbours, which it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from djserve.interfaces import WireProtocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.conf.schema import WebSocketConfig
    from djserve.interfaces import Headers, Transport


class Observer(Protocol):
    """The exchange, as a connection sees it (protocols.websocket.connection)."""

    def message_received(self, data: str | bytes, /) -> None: ...
    def closed(self, code: int, reason: str, /) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Connection(WireProtocol, Protocol):
    """What the exchange asks of an open WebSocket (protocols.websocket.connection)."""

    def attach(self, transport: Transport) -> None: ...
    def send_text(self, text: str) -> None: ...
    def send_binary(self, data: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class OpeningHandshake(Protocol):
    """What it asks of a client's handshake (protocols.websocket.handshake)."""

    def accept(
        self,
        observer: Observer,
        config: WebSocketConfig,
        *,
        subprotocol: str | None,
        headers: Iterable[tuple[bytes, bytes]],
        write_timeout: float,
    ) -> tuple[Headers, Connection]: ...


class WebSocketEntry(Protocol):
    """What is told of one WebSocket to the logs (server.records)."""

    def accepted(self) -> None: ...
    def rejected(self, status: int, /) -> None:
        """It was refused with this status, 0 where the client had gone before."""

    def closed(self, code: int, /) -> None: ...
