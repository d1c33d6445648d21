"""HTTP/1.1 clients of the soak: each request's fate is known, none is sent again."""

from __future__ import annotations

import asyncio
import random
import re
import select
import socket
from collections.abc import Callable

from benchmarks.soak_tally import TIMEOUT, Tally, Target

PROTOCOL = "HTTP/1.1"
BODY = bytes(20000)

REQUESTS = (
    b"GET /sync/ HTTP/1.1\r\nHost: soak\r\n\r\n",
    b"GET /async/ HTTP/1.1\r\nHost: soak\r\n\r\n",
    b"GET /query/ HTTP/1.1\r\nHost: soak\r\n\r\n",
    b"GET /slow/ HTTP/1.1\r\nHost: soak\r\n\r\n",
    b"POST /upload/ HTTP/1.1\r\nHost: soak\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    + BODY,
)

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


class HTTP1Client:
    """One request after the other, on one connection as long as the server keeps it.

    ``pause`` returns the seconds before each request. ``keeps`` False: each request has
    a connection of its own. A request that meets a closed connection has failed, unless
    the end was seen before it was sent, or the response before had announced it.
    """

    def __init__(
        self,
        target: Target,
        tally: Tally,
        pause: Callable[[], float],
        *,
        keeps: bool = True,
    ) -> None:
        self._target = target
        self._tls = target.tls()
        self._tally = tally
        self._pause = pause
        self._keeps = keeps
        self._chance = random.Random()

    async def run(self, over: asyncio.Event) -> None:
        """Send requests until ``over`` is set."""
        while not over.is_set():
            sock = await self._target.dial()
            port = sock.getsockname()[1]
            try:
                async with asyncio.timeout(TIMEOUT):
                    streams = await self._open(sock)
            except (OSError, TimeoutError) as error:
                self._tally.failed(f"{PROTOCOL} handshake", error, port)
                continue
            try:
                await self._converse(*streams, port, over)
            finally:
                streams[1].close()

    async def _open(
        self, sock: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "127.0.0.1" if self._tls else None
        # It closes the socket if it fails; its number may be another's by then.
        return await asyncio.open_connection(
            sock=sock, ssl=self._tls, server_hostname=name
        )

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        port: int,
        over: asyncio.Event,
    ) -> None:
        answers = 0
        while not over.is_set():
            pause = self._pause()
            await asyncio.sleep(pause)
            if await _is_closed(reader, writer):
                self._tally.events["idle connections closed"] += 1
                return
            try:
                async with asyncio.timeout(TIMEOUT):
                    writer.write(self._chance.choice(REQUESTS))
                    head = await _read_response(reader)
            except (OSError, EOFError, TimeoutError) as error:
                error.add_note(f"after {answers} answers and {pause:.3f} s")
                self._tally.failed(PROTOCOL, error, port)
                return
            answers += 1
            self._take(head, port)
            if b"\r\nconnection: close\r\n" in head:
                self._tally.events["connections ended by Connection: close"] += 1
                return
            if not self._keeps:
                return

    def _take(self, head: bytes, port: int) -> None:
        if head.startswith(b"http/1.1 200 "):
            self._tally.answered(PROTOCOL)
        else:
            line = head.partition(b"\r\n")[0].decode("latin-1")
            self._tally.failed(PROTOCOL, ValueError(line), port)


async def _is_closed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Look whether the server has closed, right before a request is sent.

    Clients with a pool of connections do so too. The kernel is asked: what it has may
    not have come to the loop's notice yet.
    """
    while not reader.at_eof() and not writer.is_closing():
        descriptor = writer.get_extra_info("socket").fileno()
        if not select.select([descriptor], [], [], 0)[0]:
            return False
        await asyncio.sleep(0)
    return True


async def _read_response(reader: asyncio.StreamReader) -> bytes:
    """Return a response's head in lower case, once its content has come too."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = _LENGTH.search(head)
    if length is None:
        raise ValueError(f"no Content-Length in {head!r}")
    await reader.readexactly(int(length[1]))
    return head
