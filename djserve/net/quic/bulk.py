"""Packets that are full of one stream's content, written without aioquic's builder.

aioquic writes a packet frame by frame, and looks through all streams for each. Most
packets of a long response have one frame, as large as the packet: these are written
here, for a third of the time. All else is left to aioquic, which always gets the last
packet of a flight: what it has to say besides (credit, connection ids, PING) does not
wait for the end of the response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.quic.stream import QuicStreamSender
from aioquic.tls import Epoch

from djserve.packages import require

if TYPE_CHECKING:
    from aioquic.quic.crypto import CryptoPair
    from aioquic.quic.stream import QuicStream

require(
    "aioquic",
    QuicPacketBuilder,
    "_buffer_capacity",
    "_datagrams",
    "_flight_bytes",
    "_packet_number",
    "_packets",
    "_peer_cid",
    "_spin_bit",
    "_total_bytes",
)
require(
    "aioquic",
    QuicPacketPacer,
    "bucket_max",
    "bucket_time",
    "next_send_time",
    "packet_time",
    "update_after_send",
    "update_rate",
)
require(
    "aioquic",
    QuicStreamSender,
    "_buffer",
    "_buffer_start",
    "_pending",
    "highest_offset",
)

# RFC 9000 section 17.3.1: the fixed bit, and a packet number of two bytes.
_SHORT_HEADER = 0x41
_SPIN, _KEY_PHASE = 5, 2
_NUMBER_MASK = 0xFFFF

# Section 19.8: an offset, and no length, since the frame ends with the packet.
_STREAM_WITH_OFFSET = bytes([QuicFrameType.STREAM_BASE | 4])

# A loop's timers have milliseconds. What may be sent in one of them is sent at once, up
# to what a receiver's socket has room for by default. Below 19 MB/s, aioquic's limit of
# 16 packets (RFC 9002 section 7.7: some burst is for the sender to choose) is higher.
_INTERVAL = 0.001
_MOST_AT_ONCE = 64


class Pacer(QuicPacketPacer):
    """Spread a window over a round trip, by bursts that are worth a timer."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._resumed_at = 0.0

    def next_send_time(  # type: ignore[override]
        self, now: float
    ) -> float | None:
        if now < self._resumed_at:
            # Each ACK would else be answered by a packet or two.
            return self._resumed_at
        at = super().next_send_time(now)
        if at is not None:
            at = self._resumed_at = max(at, now + _INTERVAL)
        return at

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        # Section 7.7: a little more than the window, so that all of it is used.
        super().update_rate(congestion_window * 5 // 4, smoothed_rtt)
        if self.packet_time is not None:
            at_once = min(_INTERVAL, _MOST_AT_ONCE * self.packet_time)
            self.bucket_max = max(self.bucket_max, at_once)


class BulkWriter:
    """Write full packets of one flight. The builder has no packet yet."""

    def __init__(
        self,
        builder: QuicPacketBuilder,
        crypto: CryptoPair,
        pacer: QuicPacketPacer,
        now: float,
    ) -> None:
        self._builder = builder
        self._crypto = crypto
        self._pacer = pacer
        self._now = now
        self._size = builder._buffer_capacity
        first = _SHORT_HEADER | builder._spin_bit << _SPIN
        first |= crypto.key_phase << _KEY_PHASE
        self._header = bytes([first]) + builder._peer_cid
        self._room = self._size - len(self._header) - 2 - crypto.aead_tag_size

    def write(self, stream: QuicStream, credit: int, limit: int) -> int:
        """Write so many packets of a stream at most; return how many bytes they have.

        ``credit`` is the offset up to which the peer takes content. Nothing is written
        of content that was lost, or if less than a packet is left.
        """
        sender = stream.sender
        offset = start = sender.highest_offset
        # With a length of one, there is nothing to be sent again.
        if len(sender._pending) != 1 or sender._pending[0].start != start:
            return 0
        # The end of a stream is in a frame of aioquic's.
        end = min(sender._pending[0].stop - 1, credit)
        kind = _STREAM_WITH_OFFSET + encode_uint_var(stream.stream_id or 0)
        with memoryview(sender._buffer) as content:
            base = sender._buffer_start
            for _ in range(limit):
                frame = kind + encode_uint_var(offset)
                stop = offset + self._room - len(frame)
                if stop > end or not self._may_send():
                    break
                data = content[offset - base : stop - base]
                self._add(b"".join((frame, data)), (sender, offset, stop))
                offset = stop
        if offset > start:
            sender._pending.subtract(start, offset)
            sender.highest_offset = offset
        return offset - start

    def _may_send(self) -> bool:
        """Return whether there is room for one packet, and one more of aioquic's."""
        builder, pacer = self._builder, self._pacer
        if builder._flight_bytes + 2 * self._size > (builder.max_flight_bytes or 0):
            return False
        if pacer.next_send_time(self._now) is not None:
            return False
        return pacer.bucket_time >= 2 * (pacer.packet_time or 0.0)

    def _add(self, payload: bytes, content: tuple[QuicStreamSender, int, int]) -> None:
        builder = self._builder
        number = builder._packet_number
        sender, start, stop = content
        datagram = self._crypto.encrypt_packet(
            self._header + (number & _NUMBER_MASK).to_bytes(2, "big"), payload, number
        )
        builder._packet_number = number + 1
        builder._datagrams.append(datagram)
        builder._flight_bytes += len(datagram)
        builder._total_bytes += len(datagram)
        builder._packets.append(
            QuicSentPacket(
                epoch=Epoch.ONE_RTT,
                in_flight=True,
                is_ack_eliciting=True,
                is_crypto_packet=False,
                packet_number=number,
                packet_type=QuicPacketType.ONE_RTT,
                sent_bytes=len(datagram),
                delivery_handlers=[(sender.on_data_delivery, (start, stop, False))],
            )
        )
        self._pacer.update_after_send(now=self._now)
