"""Accept connections from proxies that tell their client by the PROXY protocol.

The header is taken from the socket before a transport has it, and not a byte more: what
follows may be TLS.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from djserve.net.proxy_protocol import (
    BadHeader,
    ProxyHeader,
    missing_bytes,
    parse_header,
)

if TYPE_CHECKING:
    import socket
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    BuildProtocol = Callable[[ProxyHeader | None], asyncio.BaseProtocol]

logger = logging.getLogger("djserve.net")

ACCEPT_BATCH = 64
RETRY_DELAY = 1.0


class ProxiedListener:
    """Accept from a listening socket; ``trusts`` tells whose header is expected.

    It is called with the peer's address, "" for a unix socket's. ``build_protocol`` is
    called with the header, None for a peer that sends none. ``options`` are for
    ``connect_accepted_socket``.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        build_protocol: BuildProtocol,
        trusts: Callable[[str], bool],
        options: dict[str, Any],
        timeout: float,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._build_protocol = build_protocol
        self._trusts = trusts
        self._options = options
        self._timeout = timeout
        self._opening: set[asyncio.Task[Any]] = set()
        self._retry: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        if self._retry is not None:
            self._retry.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._pause(error)
                return
            connection.setblocking(False)
            host = address[0] if isinstance(address, tuple) else ""
            if self._trusts(host):
                _HeaderReader(self._loop, connection, self._open, self._timeout)
            else:
                self._open(connection, None)

    def _pause(self, error: OSError) -> None:
        """Leave the waiting connections in the kernel's queue for a moment."""
        logger.warning("Cannot accept connections for now: %s", error.strerror)
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(
            RETRY_DELAY, self._loop.add_reader, self._sock, self._accept
        )

    def _open(self, connection: socket.socket, header: ProxyHeader | None) -> None:
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: self._build_protocol(header), connection, **self._options
            )
        )
        self._opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[Any]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A failed handshake is the peer's affair; the transport is closed already.
            logger.debug("A connection could not be opened: %s", error)


class _HeaderReader:
    """Take the header from one accepted socket, then pass both on."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        connection: socket.socket,
        done: Callable[[socket.socket, ProxyHeader], None],
        timeout: float,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._done = done
        self._data = b""
        self._timer = loop.call_later(timeout, self._fail, "it took too long")
        loop.add_reader(connection, self._read)

    def _read(self) -> None:
        try:
            while missing := missing_bytes(self._data):
                data = self._connection.recv(missing)
                if not data:
                    self._fail("the peer has gone")
                    return
                self._data += data
            header = parse_header(self._data)
        except BlockingIOError:
            return
        except (BadHeader, OSError) as error:
            self._fail(str(error))
            return
        self._stop()
        self._done(self._connection, header)

    def _stop(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._connection)

    def _fail(self, reason: str) -> None:
        self._stop()
        self._connection.close()
        logger.info("Refused a connection without a PROXY header: %s", reason)
