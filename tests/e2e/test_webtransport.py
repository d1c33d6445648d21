"""WebTransport sessions of Chromium and aioquic with a consumer of Channels."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from aioquic.h3.events import (
    DatagramReceived,
    H3Event,
    WebTransportStreamDataReceived,
)
from aioquic.quic.events import QuicEvent, StreamDataReceived

from djserve.protocols.http3.frames import encode_frame
from djserve.protocols.http3.sessions import encode_code
from tests.conftest import find_free_port, server_starter
from tests.e2e.applications import HELPERS
from tests.e2e.http3_client import Client
from tests.e2e.http3_server import Server, fill, quic_arguments, serve_folder

pytestmark = pytest.mark.e2e

MIB = 1 << 20

APPLICATION = (
    """
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for a test",
    ALLOWED_HOSTS=["localhost"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from djserve.channels import WebTransportConsumer

left = []


class Echo(WebTransportConsumer):
    groups = ["all"]

    async def receive_stream(self, stream, data, *, more, unidirectional):
        if data == b"big":
            data = b"x" * 2_000_000
            await self.send_stream("big", data, more=False, unidirectional=True)
            await self.tell(b"sent")
        elif unidirectional:
            await self.send_stream("reply", data, more=more, unidirectional=True)
        else:
            await self.send_stream(stream, data, more=more)

    async def receive_datagram(self, data):
        if data == b"all":
            await self.channel_layer.group_send("all", {"type": "say", "data": "hi"})
        elif data == b"bye":
            await self.close(7, "as asked")
        else:
            await self.send_datagram(data)

    async def say(self, event):
        await self.send_datagram(event["data"].encode())

    async def stream_reset(self, stream, code):
        await self.tell(b"reset %d" % code)

    async def stream_stopped(self, stream, code):
        await self.tell(b"stopped %d" % code)

    async def tell(self, data):
        await self.send_stream(f"{data}", data, more=False, unidirectional=True)

    async def disconnect(self, code):
        left.append(code)


class Quiet(WebTransportConsumer):
    async def receive_datagram(self, data):
        await self.send_datagram(data)


class Refusing(WebTransportConsumer):
    async def connect(self):
        await self.close()


class Broken(WebTransportConsumer):
    async def connect(self):
        raise RuntimeError("as planned")


class Slow(WebTransportConsumer):
    async def receive_stream(self, stream, data, *, more, unidirectional):
        import asyncio
        await asyncio.Event().wait()


async def page(scope, receive, send):
    body = repr(left).encode()
    await respond(send, body, headers=[(b"content-type", b"text/html")])


app = ProtocolTypeRouter({
    "http": page,
    "webtransport": URLRouter([
        path("echo/", Echo.as_asgi()),
        path("quiet/", Quiet.as_asgi()),
        path("refused/", Refusing.as_asgi()),
        path("broken/", Broken.as_asgi()),
        path("slow/", Slow.as_asgi()),
    ]),
})
"""
    + HELPERS
)


SCRIPT = """async () => {
    const session = new WebTransport(`https://${location.host}/echo/`)
    await session.ready
    const text = data => new Response(data).text()
    const stream = await session.createBidirectionalStream()
    const writer = stream.writable.getWriter()
    await writer.write(new TextEncoder().encode('both ways'))
    await writer.close()
    const both = await text(stream.readable)
    const alone = await session.createUnidirectionalStream()
    const sender = alone.getWriter()
    await sender.write(new Uint8Array(100000))
    await sender.close()
    const incoming = session.incomingUnidirectionalStreams.getReader()
    const reply = (await incoming.read()).value
    const size = (await new Response(reply).arrayBuffer()).byteLength
    const datagrams = session.datagrams.writable.getWriter()
    const received = session.datagrams.readable.getReader()
    // Datagrams may get lost: ask until there is an answer.
    const repeat = async (text, answer) => {
        const timer = setInterval(
            () => datagrams.write(new TextEncoder().encode(text)).catch(() => 0), 100)
        try { return await answer } finally { clearInterval(timer) }
    }
    const quick = new TextDecoder().decode(
        (await repeat('quick', received.read())).value)
    const {closeCode, reason} = await repeat('bye', session.closed)
    return [both, size, quick, closeCode, reason]
}"""


class SessionClient(Client):
    """A client with what has come in its sessions."""

    has_sessions = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datagrams: set[tuple[int, bytes]] = set()
        self.streams: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.mine: set[int] = set()

    def quic_event_received(self, event: QuicEvent) -> None:
        # aioquic would read what comes back on these as HTTP/3's frames.
        if isinstance(event, StreamDataReceived) and event.stream_id in self.mine:
            self.keep(event.stream_id, event.data, event.end_stream)
            event = QuicEvent()
        super().quic_event_received(event)

    def keep(self, stream_id: int, data: bytes, is_last: bool) -> None:
        self.streams.setdefault(stream_id, bytearray()).extend(data)
        if is_last:
            self.ended.add(stream_id)

    def take(self, event: H3Event) -> None:
        if isinstance(event, DatagramReceived):
            self.datagrams.add((event.stream_id, event.data))
        elif isinstance(event, WebTransportStreamDataReceived):
            self.keep(event.stream_id, event.data, event.stream_ended)
        else:
            super().take(event)

    async def open(self, path: str, **request: Any) -> int:
        """Ask for a session; return its stream once it is answered."""
        fields = [
            (b":protocol", b"webtransport"),
            (b"sec-webtransport-http3-draft02", b"1"),
            *request.pop("fields", ()),
        ]
        stream_id = self.request(path, method="CONNECT", fields=fields, end=False)
        await self.wait_until(lambda: self.responses[stream_id].heads)
        return stream_id

    def datagram(self, session: int, data: bytes) -> None:
        self.h3.send_datagram(session, data)
        self.transmit()

    def open_stream(self, session: int, *, is_unidirectional: bool = False) -> int:
        stream_id = self.h3.create_webtransport_stream(session, is_unidirectional)
        self.mine.add(stream_id)
        return stream_id

    def write(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end)
        self.transmit()

    async def until_told(self, data: bytes) -> None:
        await self.wait_until(lambda: data in self.streams.values())

    async def ask(self, session: int, data: bytes, is_done: Callable[[], Any]) -> None:
        """Send a datagram, which may get lost, until something has come of it."""
        while not is_done():
            self.datagram(session, data)
            await asyncio.sleep(0.05)

    def has_sent(self, stream_id: int) -> bool:
        """Return whether the server has confirmed all that was written."""
        stream = self._quic._streams.get(stream_id)
        return stream is None or not stream.sender._buffer

    async def until_sent(self, streams: list[int]) -> None:
        await self.wait_until(lambda: all(map(self.has_sent, streams)))


class SessionServer(Server):
    """A server that takes sessions."""

    def speak(self, conversation: Callable[[SessionClient], Any]) -> Any:
        """Run a conversation, as ``talk`` does, with a client that opens them."""

        async def converse(client: Client) -> Any:
            assert isinstance(client, SessionClient)
            return await conversation(client)

        return self.talk(converse, SessionClient, max_datagram_frame_size=65536)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionServer]:
    folder = fill(tmp_path_factory.mktemp("sessions"), trustme.CA(), APPLICATION)
    port = find_free_port()
    with server_starter(folder) as start:
        flags = ["--webtransport", "--access-log", "-"]
        process = serve_folder(start, folder, port, *flags).process
        yield SessionServer(process, port, folder)


def test_streams_and_datagrams_are_echoed(server: SessionServer) -> None:
    async def speak(client: SessionClient) -> list[Any]:
        session = await client.open("/echo/")
        both = client.open_stream(session)
        client.write(both, b"both ")
        client.write(both, b"ways", end=True)
        alone = client.open_stream(session, is_unidirectional=True)
        client.write(alone, b"x" * 300_000, end=True)
        await client.wait_until(lambda: both in client.ended)
        await client.wait_until(lambda: len(client.ended) == 2)
        answer = (session, b"quick")
        await client.ask(session, b"quick", lambda: answer in client.datagrams)
        (reply,) = client.streams.keys() - {both}
        content = bytes(client.streams[both]), len(client.streams[reply]), reply % 4
        return [client.responses[session].status, *content]

    assert server.speak(speak) == [200, b"both ways", 300_000, 3]


@pytest.mark.parametrize(
    ("path", "status"), [("/refused/", 403), ("/broken/", 500), ("/nowhere/", 404)]
)
def test_session_is_refused(server: SessionServer, path: str, status: int) -> None:
    async def speak(client: SessionClient) -> int:
        return client.responses[await client.open(path)].status

    assert server.speak(speak) == status


def test_page_of_another_site_opens_none(server: SessionServer) -> None:
    async def speak(client: SessionClient) -> int:
        fields = [(b"origin", b"https://evil.example")]
        session = await client.open("/echo/", fields=fields)
        return client.responses[session].status

    assert server.speak(speak) == 403


def test_resets_stops_and_the_end_are_told(server: SessionServer) -> None:
    async def speak(client: SessionClient) -> bytes:
        session = await client.open("/echo/")
        broken = client.open_stream(session)
        client.write(broken, b"x")
        await client.wait_until(lambda: client.streams.get(broken))
        client._quic.reset_stream(broken, encode_code(7))
        client.transmit()
        await client.until_told(b"reset 7")
        stopped = client.open_stream(session)
        client.write(stopped, b"x")
        await client.wait_until(lambda: client.streams.get(stopped))
        client._quic.stop_stream(stopped, encode_code(1 << 20))
        client.transmit()
        await client.until_told(b"stopped %d" % (1 << 20))
        response = client.responses[session]
        await client.ask(session, b"bye", lambda: response.has_ended)
        return bytes(client.responses[session].content)

    assert server.speak(speak) == b"\x68\x43\x0c\0\0\0\x07as asked"


async def ends(client: SessionClient) -> Counter[int | None]:
    """Return the codes by which sessions have ended so far."""
    return Counter(ast.literal_eval((await client.fetch("/")).content.decode()))


def test_groups_reach_all_sessions_and_each_end_is_told(server: SessionServer) -> None:
    async def speak(client: SessionClient) -> bool:
        before = await ends(client)
        sessions = [await client.open("/echo/") for _ in range(2)]
        answers = {(session, b"hi") for session in sessions}
        await client.ask(sessions[0], b"all", lambda: answers <= client.datagrams)
        closing = encode_frame(0x2843, (1234).to_bytes(4, "big") + b"done")
        client.send(sessions[0], closing, end=True)
        await client.answer(sessions[0])
        client.send(sessions[1], b"", end=True)
        await client.answer(sessions[1])
        # Each has a task of its own, which may be told of the end at any time.
        told = before
        while not Counter([1234, 0]) <= told - before:
            told = await ends(client)
        return True

    assert server.speak(speak)


def test_client_that_is_not_read_has_to_wait(server: SessionServer) -> None:
    async def speak(client: SessionClient) -> int:
        session = await client.open("/slow/")
        stream_id = client.open_stream(session)
        client.write(stream_id, b"x")
        client.write(stream_id, b"x" * (4 * MIB))
        sender = client._quic._streams[stream_id].sender
        await asyncio.sleep(0.5)
        return int(sender.highest_offset)

    # The window of a stream, beyond what the application has taken once.
    assert server.speak(speak) <= MIB + 100


def test_stream_that_ends_with_much_is_sent_whole(server: SessionServer) -> None:
    async def speak(client: SessionClient) -> list[int]:
        session = await client.open("/echo/")
        asking = client.open_stream(session, is_unidirectional=True)
        client.write(asking, b"big", end=True)
        await client.until_told(b"sent")
        await client.wait_until(lambda: len(client.ended) == 2)
        return sorted(map(len, client.streams.values()))

    assert server.speak(speak) == [len(b"sent"), 2_000_000]


def test_connection_outlives_a_stream_that_is_stopped_late(
    server: SessionServer,
) -> None:
    async def speak(client: SessionClient) -> int:
        session = await client.open("/echo/")
        asking = client.open_stream(session, is_unidirectional=True)
        client.write(asking, b"big", end=True)
        await client.wait_until(lambda: client.streams)
        (stream_id,) = client.streams
        client._quic.stop_stream(stream_id, encode_code(1))
        client.transmit()
        await client.until_told(b"sent")
        client.write(client.open_stream(session), b"still here", end=True)
        await client.until_told(b"still here")
        return (await client.fetch("/")).status

    assert server.speak(speak) == 200


@pytest.mark.parametrize("way", ["reset", "session"])
def test_credit_comes_back_however_streams_end(server: SessionServer, way: str) -> None:
    async def speak(client: SessionClient) -> bool:
        credit = client._quic._remote_max_data
        session = 0
        for _ in range(3):
            if way == "session" or not session:
                session = await client.open("/slow/")
                # The application waits with this, and takes none of the others.
                client.write(client.open_stream(session), b"x")
            streams = [
                client.open_stream(session, is_unidirectional=True) for _ in range(10)
            ]
            for stream_id in streams:
                client.write(stream_id, b"x" * 30_000, end=way == "session")
            await client.until_sent(streams)
            if way == "session":
                client.send(session, b"", end=True)
                await client.answer(session)
            else:
                for stream_id in streams:
                    client._quic.reset_stream(stream_id, encode_code(1))
                client.transmit()
        # Half a window is given back at once.
        await client.wait_until(lambda: client._quic._remote_max_data > credit)
        return True

    assert server.speak(speak)


@pytest.mark.parametrize("path", ["/quiet/", "/slow/"])
def test_streams_that_are_reset_make_room_for_others(
    server: SessionServer, path: str
) -> None:
    async def speak(client: SessionClient) -> bool:
        session = await client.open(path)
        blocked = client._quic._streams_blocked_bidi
        for _ in range(220):
            stream_id = client.open_stream(session)
            client.write(stream_id, b"x")
            await client.wait_until(lambda: not blocked)
            client._quic.reset_stream(stream_id, encode_code(7))
        return client.terminated is None

    assert server.speak(speak)


@pytest.mark.browser
def test_chromium_echoes(
    server: SessionServer, require_program: Callable[..., str]
) -> None:
    from playwright.sync_api import sync_playwright

    origin = f"localhost:{server.port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_program("chromium", env="CHROMIUM"),
            args=quic_arguments(origin, server.folder / "cert.pem"),
        )
        page = browser.new_page()
        page.goto(f"https://{origin}/")
        found = page.evaluate(SCRIPT)
        browser.close()

    assert found == ["both ways", 100_000, "quick", 7, "as asked"]
