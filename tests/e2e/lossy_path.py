"""A UDP proxy between one client and a server, which treats datagrams badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any


class LossyPath:
    """Lose, repeat and delay datagrams, both ways, and change the client's address.

    ``loss``, ``repeats`` and ``delays`` are parts of all datagrams.
    """

    def __init__(
        self,
        server_port: int,
        *,
        seed: int = 1,
        loss: float = 0.0,
        repeats: float = 0.0,
        delays: float = 0.0,
    ) -> None:
        self._server = ("127.0.0.1", server_port)
        self._random = Random(seed)
        self._loss = loss
        self._repeats = loss + repeats
        self._delays = loss + repeats + delays
        self._client: Any = None
        self._front: Any = None
        self._back: Any = None
        self.port = 0
        self.counts = {"lost": 0, "repeated": 0, "delayed": 0, "passed": 0}
        self.addresses: list[int] = []
        """The ports from which the server has seen the client."""
        self.answers: list[bytes] = []
        """The last datagrams of the server."""

    async def __aenter__(self) -> LossyPath:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _End(self._from_client), local_addr=("127.0.0.1", 0)
        )
        self.port = self._front.get_extra_info("sockname")[1]
        await self.move()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._front.close()
        self._back.close()

    async def move(self) -> None:
        """Have the server see the client at another address from now on."""
        loop, before = asyncio.get_running_loop(), self._back
        self._back, _ = await loop.create_datagram_endpoint(
            lambda: _End(self._from_server), remote_addr=self._server
        )
        self.addresses.append(self._back.get_extra_info("sockname")[1])
        if before is not None:
            before.close()

    def _from_client(self, data: bytes, address: Any) -> None:
        self._client = address
        self._pass(lambda: self._back.sendto(data))

    def _from_server(self, data: bytes, address: Any) -> None:
        self.answers = [*self.answers[-9:], data]
        self._pass(lambda: self._front.sendto(data, self._client))

    def _pass(self, send: Callable[[], None]) -> None:
        fate = self._random.random()
        if fate < self._loss:
            self.counts["lost"] += 1
        elif fate < self._repeats:
            self.counts["repeated"] += 1
            send()
            send()
        elif fate < self._delays:
            self.counts["delayed"] += 1
            asyncio.get_running_loop().call_later(0.005, self._send_late, send)
        else:
            self.counts["passed"] += 1
            send()

    def _send_late(self, send: Callable[[], None]) -> None:
        if not self._front.is_closing():
            send()


class _End(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Any], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """The server is away for a moment."""
