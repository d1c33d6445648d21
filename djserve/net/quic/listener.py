"""A UDP socket -> QUIC connections: what the server takes HTTP/3 from.

Datagrams are read as long as there are some, up to a batch; each connection then
answers all of its own at once.
"""

from __future__ import annotations

import logging
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from djserve.interfaces import ConnectionInfo
from djserve.net.quic.engine import Engine
from djserve.net.quic.ids import ID_LENGTH, ConnectionIds
from djserve.net.quic.relay import NAME_LENGTH
from djserve.net.quic.sockets import DatagramSocket
from djserve.net.quic.transport import QUICTransport
from djserve.net.sockets import socket_address

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.packet import QuicHeader

    from djserve.interfaces import MultiplexTransport, StreamReceiver
    from djserve.net.quic.certificate import QUICCertificates, Served
    from djserve.net.quic.relay import Relay

    OpenStreams = Callable[[MultiplexTransport, ConnectionInfo], StreamReceiver]

logger = logging.getLogger("djserve.net")

# aioquic's own logger has a line for each connection that a client has closed.
logging.getLogger("quic").setLevel(logging.WARNING)

# Datagrams of one turn of the loop, and seconds after which the turn takes no more: one
# that is full of tiny frames costs fifty times as much as another.
_BATCH = 64
_LONGEST_TURN = 0.02

# Handshakes under way beyond which a client has to show that its address is its own
# (RFC 9000 section 8.1): each costs some milliseconds and tens of kilobytes.
RETRY_THRESHOLD = 32

# And beyond which the oldest one makes room: under a flood, an honest client needs a
# round trip, and those that never answer are the oldest ones.
HANDSHAKE_LIMIT = 1024

# Of one host, or of one network of IPv6 (/64).
HANDSHAKES_PER_HOST = 256

# Begun in one turn of the loop: each takes some milliseconds.
_BEGUN_PER_TURN = 8

_TLS_1_3 = 0x0304


class QUICListener:
    """Serve the connections of one UDP socket, which it takes over.

    ``certificates`` has what new connections are configured with. ``handshake_timeout``
    is in seconds. With a ``relay``, other
    workers have sockets of the same address, and datagrams are handed on to them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        certificates: QUICCertificates,
        open_streams: OpenStreams,
        stream_limit: int,
        handshake_timeout: float,
        relay: Relay | None = None,
    ) -> None:
        self.loop = loop
        self._relay = relay
        self._sock = sock
        self._datagrams = DatagramSocket(sock)
        self._certificates = certificates
        self._open_streams = open_streams
        self._stream_limit = stream_limit
        self._by_id: dict[bytes, QUICTransport] = {}
        self._ids = ConnectionIds.from_configuration(
            certificates.choose().configuration, b"" if relay is None else relay.name
        )
        self._handshake_timeout = handshake_timeout
        # Handshakes under way, the oldest first: their hosts, and when to give up.
        self._opening: dict[QUICTransport, tuple[str, float]] = {}
        self._opening_by_host: dict[str, int] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._begun = 0
        self._connections: set[QUICTransport] = set()
        self._retry = QuicRetryTokenHandler()
        self._is_stopped = False
        self.address = socket_address(sock)
        """The address as bound: "127.0.0.1:8443"."""
        loop.add_reader(sock.fileno(), self._read)

    @property
    def opening_count(self) -> int:
        """How many connections are in their handshake."""
        return len(self._opening)

    def stop(self) -> None:
        """Take no new connection; those there are live on. May be called again.

        A handshake that has begun is one of those.
        """
        self._is_stopped = True
        self._close_if_unused()

    def close(self) -> None:
        """Close the socket, with the connections that only repeat their last word."""
        self.stop()
        if self._expiry is not None:
            self._expiry.cancel()
        for transport in list(self._connections):
            transport.drop()
            self.terminated(transport)

    def take(self, data: bytes, address: Any) -> None:
        """Take a datagram that another worker has got."""
        transport = self._find(data, address, is_own=False)
        if transport is not None:
            transport.datagram_received(data, address, self.loop.time())
            transport.transmit()

    # transport.ConnectionHost

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Send datagrams of a connection."""
        self._datagrams.send(datagrams)

    def open_receiver(self, transport: QUICTransport) -> StreamReceiver:
        """Have the streams of an established connection served."""
        self._handshake_ended(transport)
        tls: dict[str, Any] = {
            "server_cert": transport.engine.served.certificate,
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": _TLS_1_3,
            "cipher_suite": transport.engine.cipher_suite,
        }
        server = self._datagrams.find_own_address(transport.engine.get_peer_address())
        info = ConnectionInfo(transport.client, server, tls, False, "h3")
        return self._open_streams(transport, info)

    def failed(self, transport: QUICTransport) -> None:
        """Drop a connection at an exception of ours; all others are served on."""
        logger.exception("The connection of %s is dropped", transport.client)
        transport.drop()
        self.terminated(transport)

    def id_issued(self, transport: QUICTransport, connection_id: bytes) -> None:
        self._by_id[connection_id] = transport

    def id_retired(self, connection_id: bytes) -> None:
        self._by_id.pop(connection_id, None)

    def terminated(self, transport: QUICTransport) -> None:
        """Forget a connection whose last word has been said."""
        self._handshake_ended(transport)
        self._connections.discard(transport)
        for connection_id in transport.ids:
            self._by_id.pop(connection_id, None)
        self._close_if_unused()

    # Private.

    def _close_if_unused(self) -> None:
        if self._is_stopped and not self._connections and self._sock.fileno() >= 0:
            self.loop.remove_reader(self._sock.fileno())
            if self._relay is not None:
                # What has come before the kernel chooses another worker.
                self._read()
            self._sock.close()

    def _read(self) -> None:
        """Read a batch, and let each connection in it answer once."""
        touched: dict[QUICTransport, None] = {}
        now = self.loop.time()
        self._begun = 0
        # Not the loop's clock, which may stand still in a turn (uvloop).
        end = monotonic() + _LONGEST_TURN
        for _ in range(_BATCH):
            try:
                data, address = self._datagrams.receive()
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # What the network says of an earlier datagram (ICMP).
                continue
            transport = self._find(data, address)
            if transport is not None:
                transport.datagram_received(data, address, now)
                touched[transport] = None
            if self._begun >= _BEGUN_PER_TURN or monotonic() >= end:
                break
        for transport in touched:
            transport.transmit()
        if self._relay is not None:
            self._relay.flush()

    def _find(
        self, data: bytes, address: Any, *, is_own: bool = True
    ) -> QUICTransport | None:
        """Return the connection that a datagram belongs to; begin it if it is new.

        If another worker has it, the datagram is handed on, unless it has been already:
        then it is not our ``is_own``.
        """
        if data and not data[0] & 0x80:
            # A short header: all but the first datagrams of a connection.
            connection_id = data[1 : 1 + ID_LENGTH]
            transport = self._by_id.get(connection_id)
            if transport is None and not (
                is_own and self._hand_on(connection_id, data, address)
            ):
                self._disown(connection_id, len(data), address)
            return transport
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=ID_LENGTH)
        except ValueError:
            return None
        transport = self._by_id.get(header.destination_cid)
        if transport is not None:
            return transport
        if is_own and self._hand_on(header.destination_cid, data, address):
            return None
        # RFC 9000 section 14.1: smaller ones could make us an amplifier.
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if self._is_stopped:
            if is_own and self._relay is not None:
                self._relay.forward_new(self.address, data, address)
            return None
        served = self._certificates.choose()
        if header.version not in served.configuration.supported_versions:
            if header.packet_type is not QuicPacketType.VERSION_NEGOTIATION:
                self._negotiate(header, served.configuration, address)
            return None
        if header.packet_type is not QuicPacketType.INITIAL:
            return None
        return self._begin(header, served, address)

    def _hand_on(self, connection_id: bytes, data: bytes, address: Any) -> bool:
        """Give a datagram to the worker that an id names; return whether there is one.

        An id that a client has made up may name one too, and that worker then has the
        connection.
        """
        relay = self._relay
        if relay is None or len(connection_id) != ID_LENGTH:
            return False
        return relay.forward(connection_id[:NAME_LENGTH], self.address, data, address)

    def _disown(self, connection_id: bytes, size: int, address: Any) -> None:
        """Let a client know that a connection is unknown: of an earlier process."""
        reset = self._ids.build_reset(connection_id, size)
        if reset is not None:
            self.send([(reset, address)])

    def _negotiate(
        self, header: QuicHeader, configuration: QuicConfiguration, address: Any
    ) -> None:
        answer = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=configuration.supported_versions,
        )
        self.send([(answer, address)])

    def _begin(
        self, header: QuicHeader, served: Served, address: Any
    ) -> QUICTransport | None:
        original_id, retry_id = header.destination_cid, None
        if header.token:
            try:
                original_id = self._retry.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=self.loop.time(),
                )
            except ValueError:
                # Of a server before this one, for example: as good as none.
                self._send_retry(header, address)
                return None
            retry_id = header.destination_cid
        elif len(self._opening) >= RETRY_THRESHOLD:
            self._send_retry(header, address)
            return None
        host = _find_host(address[0])
        if self._opening_by_host.get(host, 0) >= HANDSHAKES_PER_HOST:
            return None
        if len(self._opening) >= HANDSHAKE_LIMIT:
            self._give_up(next(iter(self._opening)))
        certificates = self._certificates
        engine = Engine(
            served,
            self._stream_limit,
            self._ids,
            original_id=original_id,
            retry_id=retry_id,
            choose=certificates.choose if certificates.has_names else None,
        )
        transport = QUICTransport(engine, self)
        self._handshake_begun(transport, host)
        self._connections.add(transport)
        for connection_id in (header.destination_cid, engine.host_cid):
            transport.ids.add(connection_id)
            self._by_id[connection_id] = transport
        return transport

    def _handshake_begun(self, transport: QUICTransport, host: str) -> None:
        self._begun += 1
        self._opening[transport] = (host, self.loop.time() + self._handshake_timeout)
        self._opening_by_host[host] = self._opening_by_host.get(host, 0) + 1
        if self._expiry is None:
            self._expiry = self.loop.call_later(self._handshake_timeout, self._expire)

    def _handshake_ended(self, transport: QUICTransport) -> None:
        host, _ = self._opening.pop(transport, ("", 0.0))
        count = self._opening_by_host.pop(host, 1) - 1
        if count:
            self._opening_by_host[host] = count

    def _expire(self) -> None:
        """Give the handshakes up whose time is over."""
        self._expiry = None
        now = self.loop.time()
        for transport, (_, deadline) in list(self._opening.items()):
            if deadline > now:
                self._expiry = self.loop.call_at(deadline, self._expire)
                return
            self._give_up(transport)

    def _give_up(self, transport: QUICTransport) -> None:
        transport.drop()
        self.terminated(transport)

    def _send_retry(self, header: QuicHeader, address: Any) -> None:
        source_id = self._ids.make()
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source_id,
            now=self.loop.time(),
        )
        assert header.version is not None
        answer = encode_quic_retry(
            version=header.version,
            source_cid=source_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self.send([(answer, address)])


def _find_host(address: str) -> str:
    """Return what stands for one client in counts: an address, or a network of IPv6."""
    if ":" not in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()
