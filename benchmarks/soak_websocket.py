"""WebSocket clients of the soak: they echo, and come back when they are told to."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.soak_tally import TIMEOUT, Tally, Target

PROTOCOL = "WebSocket"
PAUSE = 0.02


class WebSocketClient:
    """One message after the other, each of which must come back unchanged."""

    def __init__(
        self, target: Target, tally: Tally, number: int, pause: float = PAUSE
    ) -> None:
        self._target = target
        self._tls = target.tls()
        self._tally = tally
        self._number = number
        self._pause = pause
        self._count = 0

    async def run(self, over: asyncio.Event) -> None:
        """Converse until ``over`` is set; connect again whenever the server closes."""
        scheme = "wss" if self._tls else "ws"
        url = f"{scheme}://127.0.0.1:{self._target.port}/"
        while not over.is_set():
            sock = await self._target.dial()
            port = sock.getsockname()[1]
            try:
                async with connect(
                    url,
                    sock=sock,
                    open_timeout=TIMEOUT,
                    ping_interval=None,
                    proxy=None,
                    compression=None,
                    ssl=self._tls,
                ) as client:
                    self._tally.events["WebSockets opened"] += 1
                    await self._echo(client, over)
            except ConnectionClosed as error:
                self._tally.closed(error.rcvd.code if error.rcvd else 1006, port)
            except (OSError, EOFError, WebSocketException, TimeoutError) as error:
                self._tally.failed(f"{PROTOCOL} handshake", error, port)

    async def _echo(self, client: ClientConnection, over: asyncio.Event) -> None:
        while not over.is_set():
            self._count += 1
            text = f"{self._number} {self._count}"
            await client.send(text)
            async with asyncio.timeout(TIMEOUT):
                echo = await client.recv()
            if echo != text:
                raise WebSocketException(f"{text!r} came back as {echo!r}")
            self._tally.answered(f"{PROTOCOL} message")
            await asyncio.sleep(self._pause)
