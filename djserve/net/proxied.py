"""Accept connections from proxies that tell their client by the PROXY protocol.

The header is taken from the socket before a transport has it, and not a byte more: what
follows may be TLS.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from djserve.net.acceptor import AcceptLoop, Opener
from djserve.net.proxy_protocol import (
    BadHeader,
    ProxyHeader,
    missing_bytes,
    parse_header,
)

if TYPE_CHECKING:
    import asyncio
    import socket
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from djserve.net.acceptor import Opening
    from djserve.net.courtesy import Courtesy

    BuildProtocol = Callable[[ProxyHeader | None], asyncio.BaseProtocol]

logger = logging.getLogger("djserve.net")


class ProxiedListener:
    """Accept from a listening socket; ``trusts`` tells whose header is expected.

    It is called with the peer's address, "" for a unix socket's. ``build_protocol`` is
    called with the header, None for a peer that sends none. ``options`` are for
    ``connect_accepted_socket``. ``opening`` has those that are not open yet, and
    ``courtesy`` is told of all.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        build_protocol: BuildProtocol,
        trusts: Callable[[str], bool],
        options: dict[str, Any],
        timeout: float,
        opening: Opening | None = None,
        courtesy: Courtesy | None = None,
    ) -> None:
        self._loop = loop
        self._build_protocol = build_protocol
        self._trusts = trusts
        self._timeout = timeout
        self._opening: Opening = WeakSet() if opening is None else opening
        self._opener = Opener(loop, options, self._opening)
        self._accepting = AcceptLoop(loop, sock, self._accepted, courtesy)

    def take_waiting(self, most: int) -> None:
        """Accept at once what the kernel holds, before a close that would reset it."""
        self._accepting.take_waiting(most)

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        self._accepting.close()

    def _accepted(self, connection: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self._trusts(host):
            _HeaderReader(
                self._loop, connection, self._open, self._timeout, self._opening
            )
        else:
            self._open(connection, None)

    def _open(self, connection: socket.socket, header: ProxyHeader | None) -> None:
        self._opener.open(connection, lambda: self._build_protocol(header))


class _HeaderReader:
    """Take the header from one accepted socket, then pass both on.

    ``opening`` has the reader until it has passed them on, or given up.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        connection: socket.socket,
        done: Callable[[socket.socket, ProxyHeader], None],
        timeout: float,
        opening: Opening,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._opening = opening
        self._done = done
        self._data = b""
        self._timer = loop.call_later(timeout, self._fail, "it took too long")
        loop.add_reader(connection, self._read)
        opening.add(self)

    def _read(self) -> None:
        try:
            while missing := missing_bytes(self._data):
                data = self._connection.recv(missing)
                if not data:
                    self._fail("the peer has gone", logging.DEBUG)
                    return
                self._data += data
            header = parse_header(self._data)
        except BlockingIOError:
            return
        except BadHeader as error:
            self._fail(str(error))
            return
        except OSError as error:
            self._fail(str(error), logging.DEBUG)
            return
        self._stop()
        self._done(self._connection, header)

    def _stop(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._connection)
        self._opening.discard(self)

    def _fail(self, reason: str, level: int = logging.INFO) -> None:
        """Close the connection. A balancer's checks go without a header: DEBUG."""
        self._stop()
        self._connection.close()
        logger.log(level, "Refused a connection without a PROXY header: %s", reason)
