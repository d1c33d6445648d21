"""aioquic's connection with credit that follows what has been read.

aioquic doubles a window whenever half of it has arrived, whether or not it has been
read: a client could fill the memory of a server whose application does not read. What
is used of it without a public name is used in this module, and in ``bulk``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionId,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.stream import QuicStreamReceiver, QuicStreamSender
from aioquic.tls import Context, Epoch, pull_client_hello

from djserve.net.quic.bulk import BulkWriter, Pacer
from djserve.packages import require, require_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aioquic._buffer import Buffer
    from aioquic.quic.connection import QuicNetworkPath, QuicReceiveContext
    from aioquic.quic.packet_builder import QuicPacketBuilder
    from aioquic.quic.recovery import QuicPacketSpace
    from aioquic.quic.stream import QuicStream

    from djserve.net.quic.certificate import Served
    from djserve.net.quic.ids import ConnectionIds

require(
    "aioquic",
    QuicConnection,
    "_crypto_streams",
    "_cryptos",
    "_handshake_confirmed",
    "_host_cid_seq",
    "_host_cids",
    "_local_initial_source_connection_id",
    "_local_max_data",
    "_local_max_stream_data_uni",
    "_local_max_streams_bidi",
    "_local_max_streams_uni",
    "_loss",
    "_on_connection_limit_delivery",
    "_datagrams_pending",
    "_on_max_stream_data_delivery",
    "_remote_active_connection_id_limit",
    "_remote_max_data",
    "_remote_max_data_used",
    "_remote_max_datagram_frame_size",
    "_stream_is_discarded",
    "_streams_queue",
    "_streams",
)
require_calls(
    "aioquic",
    QuicConnection,
    "_handle_crypto_frame",
    "_handle_stream_frame",
    "_initialize",
    "_replenish_connection_ids",
    "_write_application",
    "_write_connection_limits",
    "_write_stream_limits",
)
require(
    "aioquic",
    QuicStreamSender,
    "_acked_fin",
    "_buffer",
    "_buffer_fin",
    "_buffer_stop",
    "_reset_error_code",
    "highest_offset",
)
require_calls("aioquic", Context, "_server_handle_hello")
require(
    "aioquic",
    Context,
    "certificate",
    "certificate_chain",
    "certificate_private_key",
)
require("aioquic", QuicStreamReceiver, "_ranges", "highest_offset", "is_finished")

# Control, two of QPACK, and what a client opens to see that it is ignored.
UNIDIRECTIONAL_LIMIT = 8
_UNIDIRECTIONAL_WINDOW = 32 * 1024

# The first that a server opens.
_CONTROL_STREAM = 3

# Datagrams that wait for a packet; of more, the newest are lost.
DATAGRAM_LIMIT = 64

# Pieces of one stream that may have come ahead of a missing one: aioquic looks through
# all of them for each that comes, and a datagram has room for a hundred and more. A
# packet is lost of each two in a window of half a megabyte, until there are so many.
PIECES_LIMIT = 256

# A frame's type and length; RFC 9221 section 3 counts them.
_DATAGRAM_OVERHEAD = 3

# What a stream has sent beyond this counts as long: shorter ones of its urgency go by.
LONG_RESPONSE = 128 * 1024

# One packet of this many goes to those that would come last: none starves.
_TURNS = 8

_DEFAULT_PRIORITY = (3, False)

# Ids by which a client may call one connection, as many as aioquic gives out.
_ID_LIMIT = 8


_FIRST = (-8, 0, 0)


class _RankedStreams(list["QuicStream"]):
    """The streams of a connection, of which aioquic looks through those to be served.

    It goes through the list twice for each packet: first for what to send, then, to
    make the next list, for all streams.
    """

    def __init__(
        self,
        streams: Iterable[QuicStream],
        order: Callable[[Iterable[QuicStream]], list[QuicStream]],
    ) -> None:
        super().__init__(streams)
        self._order = order
        self._is_served = False

    def __iter__(self) -> Iterator[QuicStream]:
        if self._is_served:
            return super().__iter__()
        self._is_served = True
        return iter(self._order(super().__iter__()))

    def find_sending(self) -> list[QuicStream]:
        """Return the streams that may have content to send."""
        return [
            stream
            for stream in super().__iter__()
            if not (stream.sender.buffer_is_empty or stream.is_blocked)
        ]


class _Streams(dict[int, "QuicStream"]):
    """The streams that aioquic knows, each with how much of it has been used.

    aioquic takes a stream out when both its sides have ended, by ``pop``.
    """

    def __init__(self, used: dict[int, int]) -> None:
        super().__init__()
        self._used = used

    def pop(self, stream_id: int, *default: Any) -> Any:
        self._used.pop(stream_id, None)
        return super().pop(stream_id, *default)


class Engine(QuicConnection):
    """One connection of a server; ``stream_limit`` requests may be open at a time.

    ``choose`` returns the certificate for a name that a client asks for (SNI).
    """

    def __init__(
        self,
        served: Served,
        stream_limit: int,
        ids: ConnectionIds,
        *,
        original_id: bytes,
        retry_id: bytes | None,
        choose: Callable[[str | None], Served] | None = None,
    ) -> None:
        configuration = served.configuration
        # Datagrams come with WebTransport, whose streams may be unidirectional.
        unidirectional_limit = UNIDIRECTIONAL_LIMIT
        if configuration.max_datagram_frame_size is not None:
            unidirectional_limit += stream_limit
        self.served = served
        """The certificate of the connection."""
        self._choose = choose
        # aioquic's own part of this is set up first.
        self._priorities: dict[int, tuple[int, bool]] = {}
        self._turn = self._round = 0
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_id,
            retry_source_connection_id=retry_id,
        )
        self._loss._pacer = Pacer(max_datagram_size=configuration.max_datagram_size)
        self._ids = ids
        first = self._host_cids[0]
        first.cid = self.host_cid = ids.make()
        first.stateless_reset_token = ids.find_token(first.cid)
        self._local_initial_source_connection_id = first.cid
        self._stream_window = configuration.max_stream_data
        self._connection_window = configuration.max_data
        self._local_max_stream_data_uni = _UNIDIRECTIONAL_WINDOW
        for limit, value in (
            (self._local_max_streams_bidi, stream_limit),
            (self._local_max_streams_uni, unidirectional_limit),
        ):
            limit.value = limit.sent = value
        self._used = 0
        self._used_by_stream: dict[int, int] = {}
        self._streams = _Streams(self._used_by_stream)

    # What the transport asks and says.

    @property
    def cipher_suite(self) -> int | None:
        """The number of the cipher suite in the TLS registry."""
        schedule = self.tls.key_schedule
        return None if schedule is None else int(schedule.cipher_suite)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Let the peer send as much again on a stream, and on the connection."""
        self._used += size
        self._raise_connection_window()
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        used = self._used_by_stream.get(stream_id, 0) + size
        self._used_by_stream[stream_id] = used
        if not stream.receiver.is_finished:
            window = self._stream_window
            if stream_id % 4 == 2:
                window = _UNIDIRECTIONAL_WINDOW
            if used + window - stream.max_stream_data_local >= window // 2:
                stream.max_stream_data_local = used + window

    def settle(self, stream_id: int) -> None:
        """Count all that has come on a stream as used on the connection."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        # Kept as long as the stream is: each STOP_SENDING of the peer may come here.
        come = stream.receiver.highest_offset
        self._used += come - self._used_by_stream.get(stream_id, 0)
        self._used_by_stream[stream_id] = come
        self._raise_connection_window()

    def drop_output(self, stream_id: int) -> None:
        """Free what a stream that was reset had yet to send."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sender._reset_error_code is not None:
            stream.sender._buffer.clear()

    def takes_datagram(self, size: int) -> bool:
        """Return whether the peer takes one of so many bytes, and there is room."""
        limit = self._remote_max_datagram_frame_size
        return (
            limit is not None
            and size + _DATAGRAM_OVERHEAD <= limit
            and len(self._datagrams_pending) < DATAGRAM_LIMIT
        )

    def set_priority(self, stream_id: int, urgency: int, is_incremental: bool) -> None:
        """Order a stream among those that have something to send."""
        self._priorities[stream_id] = (urgency, is_incremental)

    def forget_priority(self, stream_id: int) -> None:
        """Order a stream like any other: it has little left to send."""
        self._priorities.pop(stream_id, None)

    def can_write(self, stream_id: int) -> bool:
        """Return whether our side of a stream is open."""
        stream = self._streams.get(stream_id)
        return (
            stream is not None
            and stream.sender._buffer_fin is None
            and stream.sender._reset_error_code is None
        )

    def is_blocked(self, stream_id: int) -> bool:
        """Return whether a stream of ours waits until the peer lets it begin."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.is_blocked

    def is_sending(self, stream_id: int) -> bool:
        """Return whether a stream's output is not confirmed to its end."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.sender.is_finished

    def can_stop(self, stream_id: int) -> bool:
        """Return whether the peer may still send on a stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.receiver.is_finished

    def has_begun(self, stream_id: int) -> bool:
        """Return whether a stream's first bytes, or all that it had, have come."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return self._stream_is_discarded(stream_id)
        return stream.receiver.is_finished or stream.receiver.starting_offset() > 0

    def waiting_size(self, stream_id: int) -> int:
        """Return the bytes of a stream that were never sent."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        return stream.sender._buffer_stop - stream.sender.highest_offset

    def sent_size(self, stream_id: int) -> int:
        """Return the bytes of a stream that were sent once."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender.highest_offset

    @property
    def unacknowledged_size(self) -> int:
        """Bytes that the peer has not confirmed, one more for each open end."""
        return sum(
            len(stream.sender._buffer)
            + (stream.sender._buffer_fin is not None and not stream.sender._acked_fin)
            for stream in self._streams.values()
            if stream.sender._reset_error_code is None
        )

    # What aioquic asks.

    @property  # type: ignore[override]
    def _streams_queue(self) -> list[QuicStream]:
        """The streams in the order in which the next packet takes from them."""
        return self._queue

    @_streams_queue.setter
    def _streams_queue(self, streams: list[QuicStream]) -> None:
        # Set after each packet, with those at the end that were in it.
        self._turn = (self._turn + 1) % _TURNS
        self._queue = _RankedStreams(streams, self._order)

    def _order(self, streams: Iterable[QuicStream]) -> list[QuicStream]:
        """Return the streams that have anything to send, or are at their end."""
        found = [
            stream
            for stream in streams
            if not stream.sender.buffer_is_empty
            or stream.sender.reset_pending
            or stream.receiver.stop_pending
            or stream.is_finished
        ]
        if len(found) > 1:
            found.sort(key=self._rank if self._turn else self._rank_last)
        return found

    def _rank(self, stream: QuicStream) -> tuple[int, int, int]:
        stream_id = stream.stream_id or 0
        receiver, sender = stream.receiver, stream.sender
        if (
            stream_id == _CONTROL_STREAM
            or sender.reset_pending
            or receiver.stop_pending
        ):
            return _FIRST
        if stream.is_finished:
            return _FIRST
        urgency, is_incremental = self._priorities.get(stream_id, _DEFAULT_PRIORITY)
        is_long = sender.highest_offset >= LONG_RESPONSE
        # Those of one rank take turns, as aioquic has them.
        return (urgency, is_long, 0 if is_incremental or is_long else stream_id)

    def _rank_last(self, stream: QuicStream) -> tuple[int, int, int]:
        """Return the rank in the turn of those that would come last."""
        urgency, is_long, _ = rank = self._rank(stream)
        return rank if rank == _FIRST else (-urgency, -is_long, 0)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if self._choose is not None:
            handle = self.tls._server_handle_hello
            answer: Any = partial(self._answer_hello, self._choose, handle)
            self.tls._server_handle_hello = answer  # type: ignore[method-assign]

    def _answer_hello(
        self,
        choose: Callable[[str | None], Served],
        handle: Callable[..., None],
        hello: Buffer,
        *answers: Buffer,
    ) -> None:
        """Have a ClientHello answered with the certificate for the name in it."""
        start = hello.tell()
        self.served = choose(pull_client_hello(hello).server_name)
        hello.seek(start)
        configuration = self.served.configuration
        self.tls.certificate = configuration.certificate
        self.tls.certificate_chain = configuration.certificate_chain
        self.tls.certificate_private_key = configuration.private_key
        handle(hello, *answers)

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        # Of others a packet has more than content, or may not be sent.
        if self._handshake_confirmed and network_path.is_validated:
            streams = self._queue.find_sending()
            if streams:
                self._write_bulk(builder, streams, now)
        super()._write_application(builder, network_path, now)

    def _write_bulk(
        self, builder: QuicPacketBuilder, streams: list[QuicStream], now: float
    ) -> None:
        """Write the packets that are full of content of those that come first."""
        best, last = streams, streams[-1]
        if len(streams) > 1:
            ranks = {stream: self._rank(stream) for stream in streams}
            streams.sort(key=ranks.__getitem__)
            best = [each for each in streams if ranks[each] == ranks[streams[0]]]
            last = streams[-1]
        writer = BulkWriter(
            builder, self._cryptos[Epoch.ONE_RTT], self._loss._pacer, now
        )
        while self._write_best(writer, best):
            self._write_content(writer, last, 1)

    def _write_best(self, writer: BulkWriter, streams: list[QuicStream]) -> bool:
        """Write as many packets as come before one of the last; False for none."""
        if len(streams) == 1:
            return self._write_content(writer, streams[0], _TURNS - 1) > 0
        for _ in range(_TURNS - 1):
            self._round += 1
            stream = streams[self._round % len(streams)]
            if not self._write_content(writer, stream, 1):
                return False
        return True

    def _write_content(self, writer: BulkWriter, stream: QuicStream, count: int) -> int:
        credit = self._remote_max_data - self._remote_max_data_used
        size = writer.write(
            stream,
            min(stream.sender.highest_offset + credit, stream.max_stream_data_remote),
            count,
        )
        self._remote_max_data_used += size
        return size

    def _replenish_connection_ids(self) -> None:
        limit = min(_ID_LIMIT, self._remote_active_connection_id_limit)
        while len(self._host_cids) < limit:
            made = self._ids.make()
            self._host_cids.append(
                QuicConnectionId(made, self._host_cid_seq, self._ids.find_token(made))
            )
            self._host_cid_seq += 1

    def _handle_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        position = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(position)
        super()._handle_stream_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None:
            _check_pieces(stream, frame_type)

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_crypto_frame(context, frame_type, buf)
        _check_pieces(self._crypto_streams[context.epoch], frame_type)

    def _raise_connection_window(self) -> None:
        limit = self._local_max_data
        window = self._connection_window
        if self._used + window - limit.value >= window // 2:
            limit.value = self._used + window

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buffer = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        assert stream.stream_id is not None
        buffer.push_uint_var(stream.stream_id)
        buffer.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_connection_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace
    ) -> None:
        data = self._local_max_data
        for limit in (data, self._local_max_streams_bidi, self._local_max_streams_uni):
            is_small = limit.sent - limit.used >= limit.value - limit.sent
            if limit.value == limit.sent or (limit is not data and is_small):
                continue
            buffer = builder.start_frame(
                limit.frame_type,
                capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                handler=self._on_connection_limit_delivery,
                handler_args=(limit,),
            )
            buffer.push_uint_var(limit.value)
            limit.sent = limit.value


def _check_pieces(stream: QuicStream, frame_type: int) -> None:
    """Raise what ends the connection if a stream is in too many pieces."""
    if len(stream.receiver._ranges) > PIECES_LIMIT:
        raise QuicConnectionError(
            error_code=QuicErrorCode.INTERNAL_ERROR,
            frame_type=frame_type,
            reason_phrase="A stream is in too many pieces",
        )
