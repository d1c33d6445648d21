"""A client that never breaks HTTP/2: h2 sees to it, and complains of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.fuzz.http2_bytes import PUSH_PROMISE
from tests.fuzz.http2_check import FrameCheck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.http2_check import Frame
    from tests.fuzz.server import Case

_BLAMES = (ErrorCodes.PROTOCOL_ERROR, ErrorCodes.FLOW_CONTROL_ERROR)


class HonestClient:
    """Say whatever RFC 9113 allows, in any order; ``faults`` is what came back wrong.

    ``speak`` yields chunks for ``Case.run``; ``listen`` reads what the server has
    written.
    """

    def __init__(self, case: Case) -> None:
        self._check = FrameCheck()
        self.faults = self._check.faults
        self._case = case
        self._rng = case.rng
        self._read_size = 0
        self._is_over = False
        self._open: list[int] = []
        # Streams that the client has reset, and what was promised on them.
        self._given_up: set[int] = set()
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))

    def speak(self) -> Iterator[bytes]:
        """Yield what the client sends, one step at a time."""
        self._h2.initiate_connection()
        yield self._h2.data_to_send()
        for _ in range(self._rng.choice((2, 10, 30))):
            if not self.listen():
                return
            try:
                self._act()
            except ProtocolError:
                # Not allowed at this moment: h2 has sent nothing.
                continue
            if data := self._h2.data_to_send():
                yield data

    def listen(self) -> bool:
        """Read what has come; False at the connection's end."""
        received = self._case.transport.received
        seen = len(self._check.frames)
        self._read_size += self._check.read(bytes(received[self._read_size :]))
        self._is_over = self._is_over or not all(
            self._hear(frame) for frame in self._check.frames[seen:]
        )
        return not self._is_over

    def _hear(self, frame: Frame) -> bool:
        """Take one frame; False at the connection's end."""
        if frame.kind == PUSH_PROMISE and frame.stream_id in self._given_up:
            self._given_up.add(int.from_bytes(frame.payload[:4], "big"))
        try:
            # h2 minds some of what crosses a reset, such as interim responses. RFC 9113
            # section 5.1: such frames are to be ignored.
            events = self._h2.receive_data(frame.encode())
        except ProtocolError as error:
            if not (frame.stream_id in self._given_up or _is_picky(error)):
                self.faults.append(f"h2 takes offence: {error!r}")
            return False
        for event in events:
            if isinstance(event, DataReceived) and self._rng.random() < 0.8:
                size = event.flow_controlled_length or 0
                self._h2.acknowledge_received_data(size, event.stream_id or 0)
            elif isinstance(event, StreamReset):
                self._blame(event.error_code, f"stream {event.stream_id}")
                self._open = [i for i in self._open if i != event.stream_id]
            elif isinstance(event, ConnectionTerminated):
                self._blame(event.error_code, f"connection {event.additional_data!r}")
                return False
        return True

    def _blame(self, code: object, what: str) -> None:
        if code in _BLAMES:
            self.faults.append(f"{what} blamed for {code!r}")

    def _act(self) -> None:
        rng, h2 = self._rng, self._h2
        choice = rng.randrange(12)
        if choice < 5 or not self._open:
            self._request()
        elif choice < 8:
            self._send_content(rng.choice(self._open))
        elif choice == 8:
            self._given_up.add(self._open[-1])
            h2.reset_stream(self._open.pop(), ErrorCodes.CANCEL)
        elif choice == 9:
            stream_id = rng.choice((None, rng.choice(self._open)))
            h2.increment_flow_control_window(rng.choice((1, 70_000)), stream_id)
        elif choice == 10:
            h2.ping(b"sincere?")
        else:
            window = rng.choice((0, 10, 65_535, 200_000))
            h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})

    def _request(self) -> None:
        rng = self._rng
        method = rng.choice(("GET", "HEAD", "POST"))
        fields = [(":method", method), (":scheme", "https"), (":authority", "a")]
        fields += [(":path", "/"), ("te", "trailers")]
        stream_id = self._h2.get_next_available_stream_id()
        is_complete = method != "POST"
        self._h2.send_headers(stream_id, fields, end_stream=is_complete)
        if not is_complete:
            self._open.append(stream_id)

    def _send_content(self, stream_id: int) -> None:
        rng, h2 = self._rng, self._h2
        room = min(h2.local_flow_control_window(stream_id), h2.max_outbound_frame_size)
        size = rng.randrange(room + 1) if room > 0 else 0
        is_last = rng.random() < 0.4
        if size or is_last:
            h2.send_data(stream_id, b"c" * size, end_stream=is_last)
        if is_last:
            self._open.remove(stream_id)


def _is_picky(error: ProtocolError) -> bool:
    """Tell what h2 minds anywhere and RFC 9113 does not.

    Frames after GOAWAY (section 6.8), and an empty DATA frame where the window is below
    zero (section 6.9.1).
    """
    return "ConnectionState.CLOSED" in str(error) or "below 0" in str(error)
