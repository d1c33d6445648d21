"""HTTP/3 over real datagrams: aioquic's client, Chromium, windows, drain, faults."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, StreamType, encode_frame
from aioquic.quic.stream import QuicStream
from websockets.frames import Frame, Opcode

from tests.conftest import find_free_port, server_starter
from tests.e2e.http3_client import Client
from tests.e2e.http3_server import Server, fill, quic_arguments, serve_folder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

MIB = 1 << 20
UPLOAD_SIZE = 2 * MIB
STREAM_WINDOW = 256 * 1024
WAIT_LIMIT = MIB


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serve(
    tmp_path: Path,
    authority: trustme.CA,
    start_server: Callable[..., Any],
    free_port: int,
) -> Callable[..., Server]:
    """Give ``serve(*flags)``: the application with HTTP/3."""
    folder = fill(tmp_path, authority)
    return partial(serve_folder, start_server, folder, free_port)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[Server]:
    """A server for the tests that leave it as it was."""
    folder = fill(tmp_path_factory.mktemp("http3"), authority)
    with server_starter(folder) as start:
        yield serve_folder(start, folder, find_free_port(), "--access-log", "-")


def test_application_sees_the_version_and_tls(server: Server) -> None:
    response = server.talk(lambda client: client.fetch("/scope?a=b"))

    assert response.status == 200
    assert bytes(response.content).decode() == repr(
        (
            *("3", "https", "/scope", b"a=b", 0x304, "-----BEGIN"),
            [
                "http.response.early_hint",
                "http.response.pathsend",
                "http.response.trailers",
                "http.response.zerocopysend",
                "tls",
            ],
        )
    )
    assert response.head[b"server"] == b"djserve"
    assert re.fullmatch(rb".{3}, .* GMT", response.head[b"date"])


def test_name_chooses_the_certificate(
    serve: Callable[..., Server], tmp_path: Path, authority: trustme.CA
) -> None:
    """The client checks that the one it gets is for the name."""
    other = authority.issue_cert("*.site.example", key_type=trustme.KeyType.RSA)
    other.private_key_and_cert_chain_pem.write_to_path(tmp_path / "other.pem")
    server = serve("--sni-certfiles", str(tmp_path / "other.pem"))

    for name, file in (("localhost", "cert.pem"), ("a.site.example", "other.pem")):
        response = server.talk(
            lambda client: client.fetch("/certificate"), server_name=name
        )
        assert bytes(response.content) in (tmp_path / file).read_bytes()


def test_many_requests_share_a_connection(server: Server) -> None:
    async def ask(client: Client) -> list[bytes]:
        # More than may be open at a time: QUIC lets the others wait.
        streams = [client.request(f"/{number}") for number in range(250)]
        return [bytes((await client.answer(one)).content) for one in streams]

    assert server.talk(ask) == [b"/%d" % number for number in range(250)]


def test_large_content_both_ways(server: Server) -> None:
    async def load(client: Client) -> tuple[bytes, int]:
        data = b"u" * UPLOAD_SIZE
        up = await client.fetch("/count", method="POST", content=data)
        down = await client.fetch("/stream?16")
        return bytes(up.content), len(down.content)

    assert server.talk(load) == (b"%d" % UPLOAD_SIZE, 16 * 65536)


def test_request_that_is_not_read_is_held_back(serve: Callable[..., Server]) -> None:
    async def load(client: Client) -> tuple[int, bytes]:
        data = b"u" * UPLOAD_SIZE
        stream_id = client.request("/held", method="POST", content=data)
        sender = client._quic._streams[stream_id].sender
        # What the window lets through has gone, and another request is served.
        await client.wait_until(lambda: sender.highest_offset >= STREAM_WINDOW)
        assert (await client.fetch("/other")).content == b"/other"
        gone = sender.highest_offset
        await client.fetch("/release")
        return gone, bytes((await client.answer(stream_id)).content)

    gone, counted = serve().talk(load)

    assert gone <= STREAM_WINDOW
    assert counted == b"%d" % UPLOAD_SIZE


class LazyClient(Client):
    """A client that opens no stream's window any further until it is ``eager``."""

    eager = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        write_limits = self._quic._write_stream_limits

        def write(builder: Any, space: Any, stream: QuicStream) -> None:
            if self.eager:
                write_limits(builder, space, stream)

        self._quic._write_stream_limits = write  # type: ignore[method-assign]


def test_response_that_is_not_read_is_held_back(serve: Callable[..., Server]) -> None:
    async def load(client: Client) -> tuple[int, int]:
        assert isinstance(client, LazyClient)
        stream_id = client.request("/stream?48")
        response = client.responses[stream_id]
        await client.wait_until(lambda: len(response.content) > 100_000)
        sent = int((await client.fetch("/sent")).content)
        client.eager = True
        client.request("/more")
        return sent, len((await client.answer(stream_id)).content)

    sent, size = serve().talk(load, LazyClient, max_stream_data=128 * 1024)

    assert sent < WAIT_LIMIT
    assert size == 48 * 65536


@pytest.mark.parametrize(
    ("method", "path", "content", "length"),
    [
        ("HEAD", "/status?200", b"", None),
        ("GET", "/status?204", b"", None),
        ("GET", "/status?304", b"", None),
        ("GET", "/status?404", b"content", b"7"),
    ],
)
def test_content_is_left_out_where_there_is_none(
    server: Server, method: str, path: str, content: bytes, length: bytes | None
) -> None:
    response = server.talk(lambda client: client.fetch(path, method=method))

    assert response.is_complete
    assert response.content == content
    assert response.head.get(b"content-length") == length


def test_trailers_go_to_those_that_take_them(server: Server) -> None:
    async def ask(client: Client) -> list[Any]:
        takes = await client.fetch("/trailers", fields=[(b"te", b"trailers")])
        return [takes.heads[1:], (await client.fetch("/trailers")).heads[1:]]

    assert server.talk(ask) == [[[(b"x-sum", b"7")]], []]


def test_early_hints_come_first(server: Server) -> None:
    response = server.talk(lambda client: client.fetch("/hints"))

    assert response.heads[0] == [(b":status", b"103"), (b"link", b"</a>")]
    assert response.content == b"hinted"


def test_reset_of_the_client_reaches_the_application(server: Server) -> None:
    async def reset(client: Client) -> tuple[int, int]:
        before = int((await client.fetch("/ended")).content)
        stream_id = client.request("/wait", method="POST", end=False)
        response = client.responses[stream_id]
        await client.wait_until(lambda: response.content)
        client._quic.reset_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)
        client.transmit()
        await client.answer(stream_id)
        after = before
        while after == before:
            after = int((await client.fetch("/ended")).content)
        return after - before, response.reset or 0

    assert server.talk(reset) == (1, ErrorCode.H3_REQUEST_CANCELLED)


def test_streams_that_are_reset_at_once_make_room(server: Server) -> None:
    """Without a byte, as if their first datagrams had been lost."""

    async def speak(client: Client) -> int:
        quic = client._quic
        for _ in range(250):
            stream_id = quic.get_next_available_stream_id()
            quic.send_stream_data(stream_id, b"")
            await client.wait_until(lambda: not quic._streams_blocked_bidi)
            quic.reset_stream(stream_id, 0x10C)
            quic.stop_stream(stream_id, 0x10C)
            client.transmit()
        return (await client.fetch("/")).status

    assert server.talk(speak) == 200


def test_failure_after_the_head_resets_the_stream(server: Server) -> None:
    async def fail(client: Client) -> tuple[Any, bytes]:
        failed = await client.fetch("/fail")
        return failed, bytes((await client.fetch("/next")).content)

    failed, content = server.talk(fail)

    assert failed.reset == ErrorCode.H3_INTERNAL_ERROR
    assert not failed.is_complete
    assert content == b"/next"


REFUSALS = {
    "authority": ({"authority": b"a/b"}, 400),
    "method": ({"method": "get"}, 501),
    "connect": ({"fields": [(b":protocol", b"other")], "method": "CONNECT"}, 501),
    "expectation": ({"fields": [(b"expect", b"more")]}, 417),
    "field size": ({"fields": [(b"a", b"b" * 40_000)] * 2}, 431),
    "fields": ({"fields": [(b"a%d" % i, b"") for i in range(300)]}, 431),
    "target": ({"path": "/" + "a" * 20_000}, 414),
    "length": ({"fields": [(b"content-length", b"1" * 19)], "end": False}, 413),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_those_of_other_versions(server: Server, name: str) -> None:
    request, status = REFUSALS[name]
    options: Any = {"path": "/", **request}  # type: ignore[dict-item]
    fields = list(options.pop("fields", ()))

    async def ask(client: Client) -> tuple[int, bytes]:
        pseudo = [field for field in fields if field[0][:1] == b":"]
        others = [field for field in fields if field[0][:1] != b":"]
        refused = await client.fetch(fields=pseudo + others, **options)
        return refused.status, bytes((await client.fetch("/next")).content)

    assert server.talk(ask) == (status, b"/next")


def test_content_beyond_the_limit_is_refused(serve: Callable[..., Server]) -> None:
    server = serve("--body-size-limit", "1000")
    response = server.talk(
        lambda client: client.fetch("/count", method="POST", content=b"c" * 1001)
    )

    assert response.status == 413


def frame(kind: int, payload: bytes = b"") -> bytes:
    return encode_frame(kind, payload)


# RFC 9114: what each breach on a request's stream or a new unidirectional one costs.
BREACHES = {
    "DATA first": (0, frame(FrameType.DATA, b"x"), ErrorCode.H3_FRAME_UNEXPECTED),
    "SETTINGS": (0, frame(FrameType.SETTINGS), ErrorCode.H3_FRAME_UNEXPECTED),
    "GOAWAY": (0, frame(FrameType.GOAWAY, b"\0"), ErrorCode.H3_FRAME_UNEXPECTED),
    "HTTP/2's PING": (0, frame(0x6), ErrorCode.H3_FRAME_UNEXPECTED),
    "HEADERS rubbish": (
        0,
        frame(FrameType.HEADERS, b"\xff\xff\xff\xff"),
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
    ),
    "second control": (
        2,
        encode_uint_var(StreamType.CONTROL) + frame(FrameType.SETTINGS),
        ErrorCode.H3_STREAM_CREATION_ERROR,
    ),
    "push": (2, encode_uint_var(StreamType.PUSH), ErrorCode.H3_STREAM_CREATION_ERROR),
}


@pytest.mark.parametrize("name", BREACHES)
def test_breach_of_the_protocol_ends_the_connection(server: Server, name: str) -> None:
    kind, data, code = BREACHES[name]

    async def breach(client: Client) -> int:
        stream_id = client._quic.get_next_available_stream_id(bool(kind))
        for offset in range(len(data)):
            client.send_raw(stream_id, data[offset : offset + 1])
        return (await client.closed()).error_code

    assert server.talk(breach) == code
    assert server.talk(lambda client: client.fetch("/next")).status == 200


def test_incomplete_request_is_reset_alone(server: Server) -> None:
    async def end(client: Client) -> tuple[Any, int]:
        stream_id = client._quic.get_next_available_stream_id()
        client.send_raw(stream_id, frame(0x21, b"grease"), end=True)
        response = client.responses[stream_id]
        await client.answer(stream_id)
        return response.reset, (await client.fetch("/next")).status

    assert server.talk(end) == (ErrorCode.H3_REQUEST_INCOMPLETE, 200)


def test_request_under_way_survives_the_stop(serve: Callable[..., Server]) -> None:
    server = serve("--drain-idle-timeout", "0.2")

    async def stop(client: Client) -> tuple[bytes, int]:
        stream_id = client.request("/count", method="POST", end=False)
        client.send(stream_id, b"half")
        await client.fetch("/other")
        server.process.process.send_signal(signal.SIGTERM)
        # A GOAWAY has come on the control stream when the server rejects a new one.
        rejected = None
        while rejected is None:
            rejected = (await client.fetch("/late")).reset
        assert rejected == ErrorCode.H3_REQUEST_REJECTED
        client.send(stream_id, b"half", end=True)
        response = await client.answer(stream_id)
        return bytes(response.content), (await client.closed()).error_code

    assert server.talk(stop) == (b"8", ErrorCode.H3_NO_ERROR)
    assert server.process.process.wait(60) == 0


def test_other_versions_offer_it(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.folder / "ca.pem"))
    for http2 in (False, True):
        with httpx.Client(verify=context, http2=http2) as client:
            response = client.get(f"https://localhost:{server.port}/")
        assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert response.headers["alt-svc"] == f'h3=":{server.port}"; ma=86400'

    assert b"alt-svc" not in server.talk(lambda client: client.fetch("/")).head


def test_access_log_names_the_version(server: Server) -> None:
    server.talk(lambda client: client.fetch("/logged?a=b"))
    # Lines are written a moment later, many at a time.
    asyncio.run(wait_until(lambda: "/logged" in server.log))

    assert re.search(r'"GET /logged\?a=b HTTP/3\.0" 200 7 ', server.log)


def test_websocket_on_a_stream(server: Server) -> None:
    async def speak(client: Client) -> list[Any]:
        fields = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]
        stream_id = client.request("/ws", method="CONNECT", fields=fields, end=False)
        response = client.responses[stream_id]
        await client.wait_until(lambda: response.heads)
        text = Frame(Opcode.TEXT, b"over HTTP/3").serialize(mask=True)
        client.send(stream_id, text[:5])
        client.send(stream_id, text[5:])
        await client.wait_until(lambda: len(response.content) >= 13)
        echoed = bytes(response.content)
        close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
        client.send(stream_id, close, end=True)
        await client.answer(stream_id)
        return [response.status, echoed, bytes(response.content[13:])]

    assert server.talk(speak) == [200, b"\x81\x0bover HTTP/3", b"\x88\x02\x03\xe8"]


@pytest.mark.browser
def test_chromium_loads_and_sends(
    server: Server, require_program: Callable[..., str]
) -> None:
    from playwright.sync_api import sync_playwright

    origin = f"localhost:{server.port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_program("chromium", env="CHROMIUM"),
            args=quic_arguments(origin, server.folder / "cert.pem"),
        )
        page = browser.new_page()
        page.goto(f"https://{origin}/page")
        found = page.evaluate(
            """async () => {
                const body = new Uint8Array(1000000)
                const up = await fetch('/count', {method: 'POST', body})
                const down = await (await fetch('/stream?16')).arrayBuffer()
                const [entry] = performance.getEntriesByType('navigation')
                return [entry.nextHopProtocol, await up.text(), down.byteLength]
            }"""
        )
        browser.close()

    assert found == ["h3", "1000000", 16 * 65536]
