"""Idle connections: open them, say so, hold them until standard input ends.

``python -m benchmarks.connections --port 8000 --count 1000 --kind http`` makes one
request on each and leaves it open; ``--kind websocket`` opens WebSockets.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop

from benchmarks.clients import Client, http_request, open_clients, websocket_request


class WebSocketClient(Client):
    """An open WebSocket; it answers nothing, as nothing is asked in its short life."""

    status = b"HTTP/1.1 101"


async def hold(kind: str, port: int, count: int) -> None:
    clients = await open_clients(lambda: make_client(kind, port), port, count)
    lost = sum(client.is_lost for client in clients)
    if lost:
        raise SystemExit(f"The server closed {lost} of {count} connections")
    print(f"open {count}", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


def make_client(kind: str, port: int) -> Client:
    if kind == "websocket":
        return WebSocketClient(websocket_request(port))
    return Client(http_request(port, "/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--kind", choices=("http", "websocket"), default="http")
    options = parser.parse_args()
    uvloop.run(hold(options.kind, options.port, options.count))


if __name__ == "__main__":
    main()
