"""What stands above a protocol in tests, and keeps what reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.errors import ProtocolError
    from djserve.interfaces import (
        Connection,
        ConnectionInfo,
        Headers,
        RequestHead,
        Stream,
        Transport,
        WireProtocol,
    )


class RecordingReceiver:
    """The data that came, and the names of all other events (interfaces.Receiver)."""

    def __init__(self) -> None:
        self.data = b""
        self.events: list[object] = []

    def data_received(self, data: bytes) -> None:
        assert data
        self.data += data

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")

    def tick(self, now: float) -> None:
        self.events.append(("tick", now))

    def drain(self) -> None:
        self.events.append("drain")


class RecordedRequest:
    """What reached the application's side of one request (interfaces.Exchange)."""

    def __init__(self, head: RequestHead, stream: Stream) -> None:
        self.head = head
        self.stream = stream
        self.content = b""
        self.chunks: list[bytes] = []
        self.is_running = False
        self.is_started = False
        self.is_complete = False
        self.is_lost = False
        self.events: list[object] = []

    def answer(
        self, body: bytes = b"ok", status: int = 200, headers: Headers | None = None
    ) -> None:
        """Send a whole response; without ``headers`` the server frames it."""
        self.stream.send_response(status, headers or [], body, more=False)

    def start(self) -> None:
        assert not self.is_started
        self.is_running = self.is_started = True

    def data_received(self, data: bytes) -> None:
        assert data
        self.content += data
        self.chunks.append(data)

    def eof_received(self) -> None:
        assert not self.is_complete
        self.is_complete = True

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.is_lost
        self.is_lost = True

    def tick(self, now: float) -> None:
        self.events.append(("tick", now))

    def drain(self) -> None:
        self.events.append("drain")


R = TypeVar("R", bound=RecordedRequest)


class RecordingOwner(Generic[R]):
    """The requests and the end of one connection (interfaces.ConnectionOwner).

    ``make`` makes the recorder of a request; ``refuse`` may raise ProtocolError.
    """

    def __init__(
        self,
        make: Callable[[RequestHead, Stream], R],
        refuse: Callable[[RequestHead], None],
    ) -> None:
        self._make = make
        self._refuse = refuse
        self.requests: list[R] = []
        self.refused: list[ProtocolError] = []
        self.ended: list[Connection] = []
        self.http2: WireProtocol | None = None
        self.is_unread = False
        self.is_reset = False
        self.soon: list[Callable[[], None]] = []

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> R:
        self._refuse(head)
        self.requests.append(self._make(head, stream))
        return self.requests[-1]

    def request_refused(
        self, head: RequestHead | None, info: ConnectionInfo, error: ProtocolError
    ) -> None:
        self.refused.append(error)

    def change_to_http2(
        self, connection: Connection, transport: Transport, info: ConnectionInfo
    ) -> WireProtocol | None:
        return self.http2

    def connection_lost(self, connection: Connection) -> None:
        self.ended.append(connection)

    def has_input(self, transport: Transport) -> bool:
        return self.is_unread

    def read_later(self, proceed: Callable[[], None]) -> None:
        self.soon.append(proceed)

    def reset_transport(self, transport: Transport) -> None:
        self.is_reset = True
        transport.abort()
