"""A listening socket -> accepted connections on the loop's native transports."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    import ssl
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine
    from typing import TypeAlias
    from weakref import WeakSet

    from djserve.net.courtesy import Courtesy
    from djserve.net.descriptors import DescriptorWatch

    Opening: TypeAlias = WeakSet[Any]
    """What stands for a connection from its acceptance until it is open or fails."""

logger = logging.getLogger("djserve.net")

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BATCH = 64
_SHARED_BATCH = 4
"""How many connections are accepted in a turn of the loop if others may take them.

Each that is left waits for a turn more, behind all that is done in it for others.
"""
_RETRY_DELAY = 1.0
_LOG_INTERVAL = 60.0


class Accepting(Protocol):
    """What accepts from one listening socket."""

    def take_waiting(self, most: int) -> None:
        """Accept at once what the kernel holds: a close would reset it."""

    def close(self) -> None:
        """Accept nothing more, and close the socket; what was accepted goes on."""


def accept_connections(
    loop: AbstractEventLoop,
    sock: socket.socket,
    build_protocol: Callable[[], asyncio.BaseProtocol],
    *,
    backlog: int,
    ssl_context: ssl.SSLContext | None = None,
    handshake_timeout: float = 10.0,
    opening: Opening | None = None,
    courtesy: Courtesy | None = None,
    descriptors: DescriptorWatch | None = None,
) -> Accepting:
    """Accept connections from a listening socket once the loop runs.

    Each is served by the loop's own transport on a protocol that ``build_protocol``
    returns. Takes the socket over. The loop need not run yet.

    ``opening`` gets what is in its TLS handshake. Its protocols are made one for each
    then, and leave it when they are connected. ``courtesy`` is told of each connection
    that is accepted. ``descriptors`` tells of shortages.
    """
    options = tls_options(ssl_context, handshake_timeout)
    # An adopted socket may still be blocking.
    sock.setblocking(False)
    opener = Opener(loop, options, opening)

    def accept_by_loop(*, logs: bool = True) -> AcceptLoop:
        return AcceptLoop(
            loop,
            sock,
            lambda connection, _: opener.open(connection, build_protocol),
            courtesy,
            logs=logs,
        )

    if isinstance(loop, asyncio.BaseEventLoop):
        sock.listen(backlog)
        return accept_by_loop()
    build_counted = build_protocol
    if ssl_context is not None and opening is not None:
        build_counted = _noting(build_counted, opening)
    if courtesy is not None:
        build_counted = _sharing(build_counted, courtesy)

    def listen(copy: socket.socket) -> asyncio.Server:
        server: asyncio.Server = _result_of(
            loop.create_server(build_counted, sock=copy, backlog=backlog, **options)
        )
        return server

    servers = _Servers(sock, listen, lambda: accept_by_loop(logs=False))
    if descriptors is not None:
        descriptors.accepting.add(servers)
    return servers


def tls_options(
    ssl_context: ssl.SSLContext | None, handshake_timeout: float
) -> dict[str, Any]:
    """Return a loop's arguments for TLS, none without a context."""
    if ssl_context is None:
        return {}
    return {
        "ssl": ssl_context,
        "ssl_handshake_timeout": handshake_timeout,
        "ssl_shutdown_timeout": handshake_timeout,
    }


def _noting(
    build_protocol: Callable[[], asyncio.BaseProtocol], opening: Opening
) -> Callable[[], asyncio.BaseProtocol]:
    """Note protocols that are made: uvloop drops one whose handshake fails."""

    def build() -> asyncio.BaseProtocol:
        protocol = build_protocol()
        opening.add(protocol)
        return protocol

    return build


def _sharing(
    build_protocol: Callable[[], asyncio.BaseProtocol], courtesy: Courtesy
) -> Callable[[], asyncio.BaseProtocol]:
    """Tell ``courtesy`` of each protocol that is made: uvloop accepts by itself."""
    connection_accepted = courtesy.connection_accepted

    def build() -> asyncio.BaseProtocol:
        connection_accepted()
        return build_protocol()

    return build


def _result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing, without a task and a running loop.

    ``create_server`` on a socket that is bound already is one; Twisted's listening
    methods, which return an open port, have to call it.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("The event loop could not start to listen at once")


class _Servers:
    """uvloop's servers of one listening socket (Accepting).

    uvloop accepts one connection of a descriptor in a turn, so it gets several of the
    socket. One that finds nothing to accept costs some two microseconds.

    Out of descriptors, libuv accepts with a spare one what it then resets. If another
    thread takes that in the moment between, libuv has none until it makes a stream:
    each turn tries to accept, and all CPU time is used. So ``accept_by_loop``, which
    waits, returns what replaces the servers in a shortage.
    """

    def __init__(
        self,
        sock: socket.socket,
        listen: Callable[[socket.socket], asyncio.Server],
        accept_by_loop: Callable[[], AcceptLoop],
    ) -> None:
        self._sock = sock
        self._listen = listen
        self._accept_by_loop = accept_by_loop
        self._substitute: AcceptLoop | None = None
        self._servers: list[asyncio.Server] = []
        self._open()

    def set_short(self, is_short: bool) -> None:
        """Accept without uvloop's servers while there is a shortage, or has been."""
        if self._sock.fileno() < 0:
            return
        if is_short and self._substitute is None:
            self._close_servers()
            self._substitute = self._accept_by_loop()
        elif not is_short and self._substitute is not None:
            try:
                self._open()
            except OSError:
                self._close_servers()
                return
            self._substitute.stop()
            self._substitute = None

    def take_waiting(self, most: int) -> None:
        self._close_servers()
        if self._substitute is None:
            self._substitute = self._accept_by_loop()
        self._substitute.take_waiting(most)

    def close(self) -> None:
        self._close_servers()
        if self._substitute is not None:
            self._substitute.stop()
        self._sock.close()

    def _open(self) -> None:
        for _ in range(_SHARED_BATCH):
            self._servers.append(self._listen(self._sock.dup()))

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


class AcceptLoop:
    """Accept from a listening socket on a loop; ``accepted`` gets what comes.

    It is called with each connection and its peer's address. asyncio's own
    ``create_server`` is not used: out of file descriptors, 3.11 to 3.13 log one error
    and set one timer for each place in the backlog, every second. With ``courtesy``
    few connections are accepted in a turn, and many without. ``logs`` is false if a
    shortage is logged elsewhere.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        accepted: Callable[[socket.socket, Any], object],
        courtesy: Courtesy | None = None,
        *,
        logs: bool = True,
    ) -> None:
        self._loop = loop
        self._courtesy = courtesy
        self._usual_batch = _BATCH if courtesy is None else _SHARED_BATCH
        self._batch = self._usual_batch
        self._sock = sock
        self._accepted = accepted
        self._retry: asyncio.TimerHandle | None = None
        self._next_log = 0.0 if logs else float("inf")
        sock.setblocking(False)
        loop.add_reader(sock, self._accept)

    def stop(self) -> None:
        """Accept nothing more, and leave the socket open."""
        if self._retry is not None:
            self._retry.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        self.stop()
        self._sock.close()

    def _accept(self) -> None:
        self.take_waiting(self._batch)

    def take_waiting(self, most: int) -> None:
        """Accept at once what the kernel holds: a close would reset it."""
        for _ in range(most):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                self._batch = self._usual_batch
                return
            except OSError as error:
                # The rest (ECONNABORTED, EPERM by a firewall) is that peer's loss.
                if error.errno in _SHORTAGES:
                    self._pause(error)
                    return
            else:
                connection.setblocking(False)
                if self._courtesy is not None:
                    self._courtesy.connection_accepted()
                self._accepted(connection, address)

    def _pause(self, error: OSError) -> None:
        """Leave the waiting connections in the kernel's queue for a moment.

        Then few are accepted in a turn, until none waits: the others may end by then,
        and leave their descriptors, where many would need a pause again.
        """
        self._batch = _SHARED_BATCH
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(_RETRY_DELAY, self._resume)
        if self._loop.time() >= self._next_log:
            self._next_log = self._loop.time() + _LOG_INTERVAL
            logger.warning("Cannot accept connections for now: %s", error.strerror)

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock, self._accept)


class Opener:
    """Put accepted sockets on the loop's own transports.

    ``options`` are for ``connect_accepted_socket``. ``opening`` has what is under way.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        options: dict[str, Any],
        opening: Opening | None = None,
    ) -> None:
        self._loop = loop
        self._options = options
        self._all_opening = opening
        self._opening: set[asyncio.Task[Any]] = set()

    def open(
        self,
        connection: socket.socket,
        build_protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        """Serve a connection; a TLS handshake goes on in the background."""
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(
                build_protocol, connection, **self._options
            )
        )
        self._opening.add(task)
        if self._all_opening is not None:
            self._all_opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[Any]) -> None:
        self._opening.discard(task)
        if self._all_opening is not None:
            self._all_opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A failed handshake is the peer's loss; the transport is closed already.
            logger.debug("A connection could not be opened: %s", error)
