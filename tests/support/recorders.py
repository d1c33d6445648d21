"""What stands above a protocol in tests, and keeps what reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.interfaces import Headers, RequestHead, Stream


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
