"""The program whose instructions are counted: ``python -m benchmarks.counted KIND...``.

For each kind of work and each of two lengths it forks a server, which forks a client:
a whole server, on the loop and the reactor that ``runasgi`` has, with a real socket.
Only the client is left out. Each server names itself by a line "KIND LENGTH PID" on
standard output, and valgrind says of each process how many instructions it took. All is
imported once, before the forks.

What depends on the clock is kept out of the counts: timers are put off by a factor of
a thousand, the collector of garbage is off, and threads are not switched by time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import djserve
from benchmarks import apps
from djserve.net.main_loop import new_event_loop, take_main_loop

LENGTHS = (50, 350)
CERTIFICATE, KEY, FILES = "certificate.pem", "key.pem", "files"
BUFFER = 256 * 1024
REQUEST = "GET {} HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n{}\r\n"
BURST = 10
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
# RFC 9113 section 4.1: length, type, flags, stream.
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"

Client = Callable[[int, int], None]


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """Send as many events as the query says, each in its own turn of the loop."""
    if scope["type"] != "http":
        await apps.lifespan(receive, send)
        return
    headers = apps.EVENT_HEADERS
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(int(scope["query_string"])):
        await send(
            {"type": "http.response.body", "body": apps.EVENT, "more_body": True}
        )
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 600)


def exchange(peer: socket.socket, request: bytes, end: bytes) -> None:
    """Send a request and read until its answer has this at its end."""
    peer.sendall(request)
    data = b""
    while not data.endswith(end):
        piece = peer.recv(BUFFER)
        if not piece:
            raise SystemExit(f"The server ended the connection after {data!r}")
        data += piece
    if data[9:10] not in b"21":
        raise SystemExit(f"The server answered {data!r}")


def request(path: str, fields: str = "") -> bytes:
    return REQUEST.format(path, fields).encode()


def same_head(port: int, count: int, path: str = "/", end: bytes = b"world!") -> None:
    with connect(port) as peer:
        for _ in range(count):
            exchange(peer, request(path), end)


def other_heads(port: int, count: int) -> None:
    with connect(port) as peer:
        for number in range(count):
            exchange(peer, request("/", f"X-Number: {number:06}\r\n"), b"world!")


def connections(port: int, count: int) -> None:
    for _ in range(count):
        with connect(port) as peer:
            exchange(peer, request("/"), b"world!")


def last_requests(port: int, count: int) -> None:
    """Make requests that each ask for the end of their connection, as wrk's do."""
    for _ in range(count):
        with connect(port) as peer:
            exchange(peer, request("/", "Connection: close\r\n"), b"world!")
            if peer.recv(1):
                raise SystemExit("The server did not end the connection")


def echo(port: int, count: int) -> None:
    mask = b"\x07\x07\x07\x07"
    text = b"Hello, world!"
    frame = b"\x81" + bytes([0x80 | len(text)]) + mask + bytes(b ^ 7 for b in text)
    with connect(port) as peer:
        exchange(peer, request("/", UPGRADE), b"\r\n\r\n")
        for _ in range(count):
            peer.sendall(frame)
            answer = peer.recv(len(text) + 2, socket.MSG_WAITALL)
            if not answer.endswith(text):
                raise SystemExit(f"The echo was {answer!r}")


def events(port: int, count: int) -> None:
    with connect(port) as peer:
        exchange(peer, request(f"/?{count}"), b"0\r\n\r\n")


def http2(port: int, count: int, burst: int = 1) -> None:
    """Make requests whose header block repeats, so many at a time."""
    from hpack import Encoder

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    fields = [(":method", "GET"), (":scheme", "https"), (":path", "/")]
    fields += [(":authority", "localhost"), ("accept", "*/*")]
    encoder = Encoder()
    with context.wrap_socket(connect(port)) as peer:
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS + SETTINGS_ACK)
        for first in range(0, count, burst):
            frames = b""
            for number in range(first, first + burst):
                block = encoder.encode(fields)
                identity = (2 * number + 1).to_bytes(4, "big")
                frames += len(block).to_bytes(3, "big") + b"\x01\x05" + identity
                frames += block
            peer.sendall(frames)
            data = b""
            while data.count(b"Hello, world!") < burst:
                piece = peer.recv(BUFFER)
                if not piece:
                    raise SystemExit("The server ended the connection")
                data += piece


def django(path: str, end: bytes) -> tuple[Any, Client]:
    from djserve.handlers import get_asgi_application

    return get_asgi_application(), partial(same_head, path=path, end=end)


KINDS: dict[str, Callable[[], tuple[Any, Client]]] = {
    "hello": lambda: (apps.hello, same_head),
    "hello_heads": lambda: (apps.hello, other_heads),
    "hello_connections": lambda: (apps.hello, connections),
    "hello_closing": lambda: (apps.hello, last_requests),
    "http2_hello": lambda: (apps.hello, http2),
    "http2_streams": lambda: (apps.hello, partial(http2, burst=BURST)),
    "websocket_echo": lambda: (apps.echo, echo),
    "event": lambda: (stream, events),
    "static_file": lambda: (
        apps.hello,
        partial(same_head, path="/static/a.txt", end=b"x~"),
    ),
    "django_sync": lambda: django("/sync/", b"Hello, world!"),
    "django_async": lambda: django("/async/", b"Hello, world!"),
    "django_query": lambda: django("/query/", b"someone"),
    "django_session": lambda: django("/session/", b"world!"),
}
WITH_TLS = ("http2_hello", "http2_streams")


def refer(length: int) -> None:
    """Do work of the interpreter alone: what others are compared with."""
    for _ in range(length):
        table: dict[str, int] = {}
        for number in range(200):
            key = "%d" % (number % 50)  # noqa: UP031
            table[key] = table.get(key, 0) + number
        sorted(table.items(), key=lambda item: item[1])


def settings_for(kind: str, folder: Path, listener: socket.socket) -> dict[str, Any]:
    settings: dict[str, Any] = {"bind": [f"fd://{listener.fileno()}"]}
    settings["access_log"] = None
    if kind == "static_file":
        settings["files"] = [f"/static/={folder / FILES}"]
    if kind in WITH_TLS:
        settings["certfile"] = str(folder / CERTIFICATE)
        settings["keyfile"] = str(folder / KEY)
    return settings


def put_timers_off(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """Return the loop with timers that do not fire while instructions are counted."""
    call_later = loop.call_later

    def later(delay: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        return call_later(delay * 1000, *arguments, **options)

    loop.call_later = later  # type: ignore[method-assign, assignment]
    return loop


def serve(kind: str, length: int, folder: Path) -> int:
    """Serve until the client has all its answers; return the client's exit code."""
    application, client = KINDS[kind]()
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if not pid:
        end(client, listener.getsockname()[1], length)
    codes: list[int] = []

    def wait() -> None:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
    take_main_loop(put_timers_off(new_event_loop()))
    with listener:
        djserve.run(application, **settings_for(kind, folder, listener))
    return codes[0]


def end(work: Callable[..., Any], *arguments: Any) -> None:
    """Do the work in a process that has been forked for it, and end it."""
    code = 1
    try:
        code = work(*arguments) or 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def work(kind: str, length: int, folder: Path) -> int:
    if kind != "reference":
        return serve(kind, length, folder)
    refer(length)
    return 0


def load(kinds: list[str]) -> None:
    """Import what the servers need, once for all of them."""
    import djserve.server.launch
    import djserve.serving
    from djserve.server.factory import load_protocols

    load_protocols()
    if any(kind.startswith("django_") for kind in kinds):
        import django

        django.setup()
        import benchmarks.project.urls  # noqa: F401
        import djserve.handlers  # noqa: F401


def main() -> int:
    gc.disable()
    sys.setswitchinterval(1000)
    folder = Path(os.environ["BENCH_FOLDER"])
    load(sys.argv[1:])
    for kind in sys.argv[1:]:
        for length in LENGTHS:
            pid = os.fork()
            if not pid:
                end(work, kind, length, folder)
            print(kind, length, pid, flush=True)
            if os.waitpid(pid, 0)[1]:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
