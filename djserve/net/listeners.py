"""Listening sockets -> connections: what the server accepts from.

A connection is served by the loop's native transport itself; djserve's protocols sit on
it with nothing between. Endpoint strings go through Twisted (``endpoints.py``).
"""

from __future__ import annotations

import asyncio
import copy
import socket
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from djserve.errors import ListenError
from djserve.interfaces import ConnectionInfo
from djserve.net.acceptor import accept_connections, tls_options
from djserve.net.address import (
    EndpointAddress,
    FDAddress,
    UnixAddress,
    parse_address,
)
from djserve.net.sockets import (
    UNIX,
    open_sockets,
    socket_address,
    socket_inode,
    stop_listening,
    unix_path,
    unlink_socket,
)
from djserve.net.tls import cipher_numbers, tls_extension

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from djserve.interfaces import OpenConnection
    from djserve.net.acceptor import Accepting, Opening
    from djserve.net.courtesy import Courtesy
    from djserve.net.descriptors import DescriptorWatch
    from djserve.net.main_loop import Runner
    from djserve.net.proxy_protocol import ProxyHeader

    UnixFile = tuple[int, tuple[int, int]]
    TrustsProxy = Callable[[str], bool]


# Prefix of an address: what this machine itself connects to, and what is listened on.
_WILDCARDS = {
    "0.0.0.0:": ("127.0.0.1:", "all IPv4 addresses"),
    "[::]:": ("[::1]:", "all IPv6 addresses"),
}


class Listener:
    """One open listening socket."""

    def __init__(
        self,
        address: str,
        close: Callable[[], None],
        *,
        tls: bool,
        opening: Opening | None = None,
        take_waiting: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        """The address as bound, with the real port: "127.0.0.1:8000", "unix:/path"."""
        self._close = close
        self._take_waiting = take_waiting
        self._opening: Opening = WeakSet() if opening is None else opening
        self._is_stopped = False
        self._scheme = "https" if tls else "http"

    @property
    def port(self) -> int | None:
        """The port as bound; None if there is none, as for a unix socket."""
        address = self.address
        if "/" in address or "=" in address:
            return None
        digits = address.rpartition(":")[2]
        return int(digits) if digits.isdigit() else None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it; the address if none can."""
        address = self.address
        if "/" in address or "=" in address:
            return address
        for wildcard, (loopback, _) in _WILDCARDS.items():
            if address.startswith(wildcard):
                address = loopback + address.removeprefix(wildcard)
        return f"{self._scheme}://{address}/"

    @property
    def place(self) -> str:
        """The URL, and that the whole network finds it too if it does."""
        for wildcard, (_, extent) in _WILDCARDS.items():
            if self.address.startswith(wildcard):
                return f"{self.url} ({extent}, {wildcard.rstrip(':')})"
        return self.url

    @property
    def opening_count(self) -> int:
        """How many connections are accepted, and in a handshake or a proxy's header."""
        return len(self._opening)

    def stop(self, *, take_waiting: bool = False) -> None:
        """Stop accepting at once; accepted connections live on. May be called again.

        To its client, a connection that the kernel holds is open, and its request sent.
        With ``take_waiting`` it is accepted before the end, which would reset it.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        if take_waiting and self._take_waiting is not None:
            self._take_waiting()
        self._close()


async def open_listeners(
    runner: Runner,
    address_text: str,
    open_connection: OpenConnection,
    *,
    backlog: int,
    ssl_context: ssl.SSLContext | None = None,
    handshake_timeout: float = 10.0,
    alpn: Sequence[str] = ("http/1.1",),
    unix_file: UnixFile = (0o666, (-1, -1)),
    trusts_proxy: TrustsProxy | None = None,
    courtesy: Courtesy | None = None,
    descriptors: DescriptorWatch | None = None,
) -> list[Listener]:
    """Listen on an address and hand every connection to ``open_connection``.

    Several listeners come of a name with several addresses and of all interfaces. The
    reactor is used for endpoint strings alone, which bring their own TLS settings; for
    these, ``alpn`` is what is offered to TLS clients. ``unix_file`` is the mode and the
    owner's ids of a unix socket's file. With ``trusts_proxy``, connections from the
    hosts that it is true for ("" for a unix socket) begin with the PROXY protocol.
    ``courtesy`` is told of each connection that is accepted, but for those of endpoint
    strings, and ``descriptors`` tells of shortages. Raises ListenError.

    ``open_connection`` gets the loop's own transport. Its ``pause_reading`` has effect
    after ``open_connection`` has returned. A true result of ``eof_received`` keeps a
    cleartext connection open for writing; any other closes it once all is sent.
    """
    try:
        address = parse_address(address_text)
    except ValueError as error:
        raise ListenError(address_text, str(error)) from error
    if isinstance(address, EndpointAddress):
        # Few servers have one, and all of Twisted's endpoints come with it.
        from djserve.net.twisted.endpoints import listen_on_endpoint

        opening: Opening = WeakSet()
        bound, close = await listen_on_endpoint(
            runner.as_reactor(),
            address.description,
            open_connection,
            handshake_timeout,
            alpn,
            opening,
        )
        return [Listener(bound, close, tls=address.is_tls, opening=opening)]
    return [
        open_listener_on(
            runner,
            sock,
            open_connection,
            backlog=backlog,
            ssl_context=ssl_context,
            handshake_timeout=handshake_timeout,
            unlink=isinstance(address, UnixAddress),
            is_shared=isinstance(address, FDAddress),
            trusts_proxy=trusts_proxy,
            courtesy=courtesy,
            descriptors=descriptors,
        )
        for sock in open_sockets(
            address, backlog=backlog, mode=unix_file[0], owner=unix_file[1]
        )
    ]


def open_listener_on(
    runner: Runner,
    sock: socket.socket,
    open_connection: OpenConnection,
    *,
    backlog: int,
    ssl_context: ssl.SSLContext | None = None,
    handshake_timeout: float = 10.0,
    unlink: bool = False,
    is_shared: bool = True,
    trusts_proxy: TrustsProxy | None = None,
    courtesy: Courtesy | None = None,
    descriptors: DescriptorWatch | None = None,
) -> Listener:
    """Take over a listening socket that is bound already: a worker's, for example.

    ``unlink`` removes a unix socket's file at the stop, if this listener owns it. A
    socket that is not ``is_shared`` is shut down then: it takes no connection any more,
    even if a process that the application has started still has a copy.
    """
    address = socket_address(sock)
    path = unix_path(sock.getsockname()) if sock.family == UNIX else None
    inode = socket_inode(sock) if unlink else None
    acceptor = _Acceptor(open_connection, path, ssl_context, _only_address(sock))
    opening: Opening = WeakSet()
    if trusts_proxy is None:
        accepting: Accepting = accept_connections(
            runner.loop,
            sock,
            acceptor.itself if ssl_context is None else acceptor.beginning(opening),
            backlog=backlog,
            ssl_context=ssl_context,
            handshake_timeout=handshake_timeout,
            opening=opening,
            courtesy=courtesy,
            descriptors=descriptors,
        )
    else:
        # Few servers have such a proxy.
        from djserve.net.proxied import ProxiedListener

        accepting = ProxiedListener(
            runner.loop,
            sock,
            lambda header: acceptor.behind(header),
            trusts_proxy,
            tls_options(ssl_context, handshake_timeout),
            handshake_timeout,
            opening,
            courtesy,
        )

    def close() -> None:
        if not is_shared:
            stop_listening(sock)
        accepting.close()
        if path is not None and inode is not None:
            unlink_socket(path, inode)

    return Listener(
        address,
        close,
        tls=ssl_context is not None,
        opening=opening,
        # The kernel holds one more than it is told to.
        take_waiting=lambda: accepting.take_waiting(backlog + 1),
    )


class _Acceptor(asyncio.Protocol):
    """The first protocol of every connection of one listener, for one call each.

    The loop calls ``connection_made`` before it reads, so that nothing comes up until
    the receiver is in place; from then on the loop calls that directly.
    """

    def __init__(
        self,
        open_connection: OpenConnection,
        path: str | None,
        ssl_context: ssl.SSLContext | None,
        address: tuple[str, int] | None,
    ) -> None:
        self._open_connection = open_connection
        self._path = path
        self._address = address
        self._is_tls = ssl_context is not None
        self._header: ProxyHeader | None = None
        self._opening: Opening | None = None
        self._ciphers = {} if ssl_context is None else cipher_numbers(ssl_context)

    def behind(self, header: ProxyHeader | None) -> _Acceptor:
        """Return the acceptor for a connection that a proxy has told more of."""
        if header is None or header.client is None:
            return self
        acceptor = copy.copy(self)
        acceptor._header = header
        return acceptor

    def itself(self) -> _Acceptor:
        return self

    def beginning(self, opening: Opening) -> Callable[[], _Acceptor]:
        """Return what makes an acceptor for each handshake; it leaves ``opening``."""
        facts = {**self.__dict__, "_opening": opening}

        def begin() -> _Acceptor:
            # What ``copy`` does, in less time (benchmark: http1_tls_new).
            acceptor = _Acceptor.__new__(_Acceptor)
            acceptor.__dict__.update(facts)
            return acceptor

        return begin

    def connection_made(self, transport: Any) -> None:
        if self._opening is not None:
            self._opening.discard(self)
        try:
            info = self._connection_info(transport)
            receiver = self._open_connection(transport, info)
        except BaseException:
            # The loop logs it; without a receiver the connection must not stay open.
            transport.abort()
            raise
        transport.set_protocol(receiver)

    def _connection_info(self, transport: Any) -> ConnectionInfo:
        tls = None
        alpn = ""
        if self._is_tls:
            ssl_object = transport.get_extra_info("ssl_object")
            # The name that the client asked for may have chosen another certificate.
            server_cert = getattr(ssl_object.context, "server_cert", None)
            tls = tls_extension(ssl_object, server_cert, self._ciphers)
            alpn = ssl_object.selected_alpn_protocol() or ""
        if self._header is not None:
            client, server = self._header.client, self._header.server
            return ConnectionInfo(client, server, tls, False, alpn, is_proxied=True)
        if self._path is not None:
            return ConnectionInfo(None, (self._path, None), tls, True, alpn)
        # Either is None if the peer has reset the connection in the meantime.
        client = transport.get_extra_info("peername")
        address = self._address
        if address is None:
            server = transport.get_extra_info("sockname")
            address = (server[0], server[1]) if server else None
        return ConnectionInfo(
            (client[0], client[1]) if client else None, address, tls, False, alpn
        )


def _only_address(sock: socket.socket) -> tuple[str, int] | None:
    """Return the address that all of a socket's connections have, None if they differ.

    It costs a call of the system to ask each of them (benchmark: http1_new).
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host, port = sock.getsockname()[:2]
    return None if host in ("0.0.0.0", "::") else (host, port)
