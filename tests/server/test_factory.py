"""Connections to protocols, and request heads to exchanges."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import email.utils
import logging
import re
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hpack import Encoder

from djserve.asgi.origin import OriginPolicy
from djserve.conf.schema import (
    HTTP2Config,
    HTTPConfig,
    LoggingConfig,
    ProxyConfig,
    ServerConfig,
)
from djserve.protocols.extensions import Offer
from djserve.protocols.http1.connection import HTTP2_PREFACE
from djserve.protocols.http2 import frames
from djserve.testing.transport import MemoryTransport
from tests.server.sites import GET, Site, on_loop
from tests.support.logs import own_records
from tests.support.waiting import settle

if TYPE_CHECKING:
    from djserve.asgi.types import Scope

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"


def date_in(data: bytes) -> float:
    found = re.search(rb"\r\ndate: ([^\r]+)\r\n", data)
    assert found
    return email.utils.parsedate_to_datetime(found[1].decode()).timestamp()


@on_loop
async def test_request_reaches_the_application() -> None:
    site = Site()
    transport = await site.send(GET)

    assert transport.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [scope["type"] for scope in site.scopes] == ["http"]
    assert site.log.statuses == [200]


@on_loop
async def test_handshake_reaches_the_application_as_a_websocket() -> None:
    site = Site()
    transport = await site.send(HANDSHAKE + b"\r\n")

    assert transport.data.startswith(b"HTTP/1.1 101 ")
    assert [scope["type"] for scope in site.scopes] == ["websocket"]
    transport.lose()
    await site.calls.cancel_all(1)


@on_loop
async def test_malformed_handshake_is_refused() -> None:
    site = Site()
    data = HANDSHAKE.replace(b"Version: 13", b"Version: 7") + b"\r\n"
    transport = await site.send(data)

    assert transport.data.startswith(b"HTTP/1.1 426 ")
    assert site.scopes == []
    assert site.log.statuses == [426]


@pytest.mark.parametrize(
    ("host", "policy", "is_http2"),
    [
        ("127.0.0.1", "trusted", True),
        ("192.0.2.1", "trusted", False),
        ("192.0.2.1", "on", True),
        ("127.0.0.1", "off", False),
    ],
)
@on_loop
async def test_prior_knowledge_of_http2_needs_a_trusted_peer(
    host: str, policy: str, is_http2: bool
) -> None:
    config = ServerConfig(http2=HTTP2Config(http2_cleartext=policy))
    site = Site(config)
    transport = await site.send(HTTP2_PREFACE + SETTINGS, host)

    # SETTINGS in one answer, a status line in the other.
    assert transport.data.startswith(b"HTTP/1.1 400") == (not is_http2)
    assert (transport.data[3:4] == b"\x04") == is_http2
    names = {type(connection).__name__ for connection in site.factory.connections}
    assert names == {"HTTP2Connection" if is_http2 else "HTTP1Connection"}
    assert site.factory.opened == 1


@on_loop
async def test_connection_that_changes_to_http2_while_draining_ends_too() -> None:
    site = Site()
    transport = site.connect("127.0.0.1")
    transport.feed(HTTP2_PREFACE[:10])
    draining = asyncio.create_task(site.factory.drain())
    await settle()
    transport.feed(HTTP2_PREFACE[10:] + SETTINGS)
    await settle()
    assert not draining.done()
    await asyncio.sleep(60)

    assert GOAWAY in transport.data
    transport.lose()
    await draining


@pytest.mark.parametrize(
    ("origin", "status"),
    [(b"http://a", b"101"), (b"http://b", b"403"), (b"null", b"403")],
)
@on_loop
async def test_origin_is_checked(origin: bytes, status: bytes) -> None:
    site = Site(policy=OriginPolicy(allowed_hosts=("a",)))
    transport = await site.send(HANDSHAKE + b"Origin: " + origin + b"\r\n\r\n")

    assert transport.data[9:12] == status
    assert len(site.scopes) == (status == b"101")
    transport.lose()
    await site.calls.cancel_all(1)


@pytest.mark.parametrize(
    ("host", "client"),
    [("127.0.0.1", "203.0.113.9"), ("192.0.2.1", "192.0.2.1")],
)
@on_loop
async def test_only_a_trusted_proxy_is_believed(host: str, client: str) -> None:
    site = Site(ServerConfig(proxy=ProxyConfig(proxy_headers=True)))
    await site.send(GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n", host)

    assert site.scopes[0]["client"][0] == client


@on_loop
async def test_proxies_are_not_believed_by_default() -> None:
    site = Site()
    await site.send(GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n", "127.0.0.1")

    assert site.scopes[0]["client"][0] == "127.0.0.1"


def test_refused_request_is_told_to_both_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "djserve")

    async def drive() -> Site:
        site = Site()
        await site.send(b"oops\r\n\r\n")
        return site

    site = asyncio.run(drive())
    assert site.log.statuses == [400]
    assert "Refused a request from 192.0.2.1:50000: " in caplog.text
    assert all(record.exc_info is None for record in own_records(caplog))


@pytest.mark.parametrize(
    ("setting", "value", "request_head"),
    [
        ("request_line_limit", 64, b"GET /" + b"a" * 70 + b" HTTP/1.1\r\n\r\n"),
        ("header_size_limit", 256, GET[:-2] + b"X: " + b"a" * 300 + b"\r\n\r\n"),
        ("header_count_limit", 1, GET[:-2] + b"X: a\r\n\r\n"),
        ("body_size_limit", 4, GET[:-2] + b"Content-Length: 5\r\n\r\n"),
    ],
)
@on_loop
async def test_log_names_the_setting_that_refuses(
    setting: str, value: int, request_head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "djserve")
    config = HTTPConfig(**{setting: value})  # type: ignore[arg-type]
    transport = await Site(ServerConfig(http=config)).send(request_head)

    assert transport.data[9:12] in (b"413", b"414", b"431")
    assert f"(setting {setting.upper()})" in caplog.messages[-1]
    assert setting.upper().encode() not in transport.data


@on_loop
async def test_request_refused_within_its_content_is_logged_once() -> None:
    site = Site(ServerConfig(http=HTTPConfig(body_size_limit=4)))
    site.go.clear()
    head = GET.replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    transport = await site.send(head + b"5\r\nhello\r\n")

    assert transport.data.startswith(b"HTTP/1.1 413 ")
    assert site.log.statuses == [413]
    await site.calls.cancel_all(1)


def test_refused_origin_is_explained_to_the_operator_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "djserve")

    async def drive() -> MemoryTransport:
        site = Site(policy=OriginPolicy(allowed_hosts=("a",)))
        return await site.send(HANDSHAKE + b"Origin: http://b\r\n\r\n")

    transport = asyncio.run(drive())
    assert transport.data.endswith(b"\r\n\r\nForbidden\n")
    assert "Origin 'http://b' may not open a WebSocket here" in caplog.text
    assert "WARNING" in caplog.text


@on_loop
async def test_refused_request_is_logged_with_the_forwarded_client() -> None:
    site = Site(
        ServerConfig(proxy=ProxyConfig(proxy_headers=True)),
        OriginPolicy(allowed_hosts=("a",)),
    )
    fields = b"Origin: http://b\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    await site.send(HANDSHAKE + fields, "127.0.0.1")

    assert site.log.statuses == [403]
    assert site.log.clients == [("203.0.113.9", 0)]


@on_loop
async def test_date_is_renewed_by_the_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    first = date_in((await site.send(GET)).data)
    later = time.time() + 90
    monkeypatch.setattr(time, "time", lambda: later)
    assert date_in((await site.send(GET)).data) == first

    site.factory.tick(0.0)
    assert date_in((await site.send(GET)).data) == int(later)
    assert abs(first - later) > 80


@on_loop
async def test_date_is_renewed_though_something_else_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise AttributeError

    site = Site()
    later = time.time() + 90
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(site.factory.admission, "tick", fail)
    with pytest.raises(AttributeError):
        site.factory.tick(0.0)

    assert date_in((await site.send(GET)).data) == int(later)


@pytest.mark.parametrize(("name", "expected"), [("me", True), ("", False)])
@on_loop
async def test_server_field_is_a_setting(name: str, expected: bool) -> None:
    site = Site(ServerConfig(http=HTTPConfig(server_name=name)))

    assert (b"\r\nserver: me\r\n" in (await site.send(GET)).data) is expected


@on_loop
async def test_each_of_repeated_requests_has_a_name_of_its_own() -> None:
    site = Site(ServerConfig(logging=LoggingConfig(request_id=True)))
    transport = site.connect()
    for _ in range(5):
        transport.feed(GET)
        await settle()

    headers = [scope["headers"] for scope in site.scopes]
    assert len(headers) == 5
    assert all(len(fields) == 2 for fields in headers)
    assert len({dict(fields)[b"x-request-id"] for fields in headers}) == 5


def http2_request(stream_id: int, block: bytes) -> bytes:
    flags = frames.END_HEADERS | frames.END_STREAM
    return frames.pack_header(len(block), frames.HEADERS, flags, stream_id) + block


class HTTP2Client:
    """Make requests whose header blocks repeat: all of a block is in the table."""

    def __init__(self, site: Site, host: str) -> None:
        self._site = site
        self._encoder = Encoder()
        self._next_stream = 1
        self.transport = site.connect(host)
        self.transport.feed(HTTP2_PREFACE + SETTINGS)

    async def get(self, *fields: tuple[str, str], count: int = 1) -> list[Scope]:
        """Return the scopes of as many requests, made one after the other."""
        base = [(":method", "GET"), (":scheme", "http"), (":path", "/a?b")]
        before = len(self._site.scopes)
        for _ in range(count):
            block = self._encoder.encode([*base, (":authority", "a"), *fields])
            self.transport.feed(http2_request(self._next_stream, block))
            self._next_stream += 2
            await settle()
        return self._site.scopes[before:]


def spoil(value: Any) -> None:
    """Change all that can be changed in a scope, whatever is in it."""
    if isinstance(value, Offer):
        with pytest.raises(TypeError):
            value["spoilt"] = True
    elif isinstance(value, dict):
        for each in list(value.values()):
            spoil(each)
        value.clear()
        value["spoilt"] = True
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value[:] = [(b"cookie", b"of another")]


CLEARTEXT = ServerConfig(http2=HTTP2Config(http2_cleartext="on"))


@on_loop
async def test_scope_of_a_repeated_http2_request_is_that_of_the_first() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        site.scopes.append(copy.deepcopy(scope))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ok"})
        spoil(scope)

    site = Site(CLEARTEXT, application=application)
    client = HTTP2Client(site, "192.0.2.1")
    found = await client.get(("cookie", "a=1"), ("x-long", "y" * 3000), count=8)

    assert len(found) == 8
    assert found[0]["headers"][1:] == [(b"x-long", b"y" * 3000), (b"cookie", b"a=1")]
    assert all(scope == found[0] for scope in found)


@on_loop
async def test_repeated_http2_requests_have_their_own_cookies_and_client() -> None:
    site = Site(CLEARTEXT)
    clients = [HTTP2Client(site, f"192.0.2.{number}") for number in (1, 2)]
    for number in (1, 2, 1, 1, 2, 2, 1):
        for client, host in zip(clients, ("192.0.2.1", "192.0.2.2"), strict=True):
            cookie = f"user={host}-{number}"
            for scope in await client.get(("cookie", cookie), count=3):
                assert scope["client"] == (host, 50000)
                assert scope["headers"][-1] == (b"cookie", cookie.encode())
                assert len(scope["headers"]) == 2


@on_loop
async def test_repeated_http2_requests_have_names_of_their_own() -> None:
    config = dataclasses.replace(CLEARTEXT, logging=LoggingConfig(request_id=True))
    scopes = await HTTP2Client(Site(config), "192.0.2.1").get(count=5)
    names = {dict(scope["headers"])[b"x-request-id"] for scope in scopes}

    assert [len(scope["headers"]) for scope in scopes] == [2] * 5
    assert len(names) == 5


@on_loop
async def test_repeated_http2_request_offers_what_works_by_then() -> None:
    site = Site(CLEARTEXT)
    client = HTTP2Client(site, "192.0.2.1")
    push = "http.response.push"
    scopes = await client.get(count=3)
    no_push = struct.pack(">HL", 2, 0)
    client.transport.feed(frames.pack_header(6, frames.SETTINGS, 0, 0) + no_push)
    scopes += await client.get(count=2)
    client.transport.feed(
        frames.pack_header(6, frames.SETTINGS, 0, 0) + struct.pack(">HL", 2, 1)
    )
    scopes += await client.get(count=2)
    client.transport.feed(frames.encode_goaway(0, 0))
    scopes += await client.get()

    offers = [push in scope["extensions"] for scope in scopes]
    assert offers == [True] * 3 + [False] * 2 + [True] * 2 + [False]


@on_loop
async def test_lost_connections_are_forgotten() -> None:
    site = Site()
    transport = await site.send(GET)
    assert len(site.factory.connections) == 1

    transport.lose()
    assert site.factory.connections == set()


@on_loop
async def test_abort_drops_every_connection() -> None:
    site = Site()
    transports = [site.connect(), site.connect()]

    assert site.factory.abort() == 2
    assert all(transport.is_aborted for transport in transports)


@on_loop
async def test_burst_of_compressed_messages_leaves_turns_to_others() -> None:
    """Each of these messages is a thousand times longer than what was sent."""
    turns: list[int] = []
    turn = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            assert len(message["bytes"]) == 1_000_000
            turns.append(turn)

    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(bytes(1_000_000))
    data = (data + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frame = b"\xc2\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data
    site = Site(application=application)
    transport = await site.send(HANDSHAKE + offer)

    transport.feed(frame * 20)
    held_back = [transport.reading_paused]
    while len(turns) < 20:
        turn += 1
        await asyncio.sleep(0)

    assert len(set(turns)) == 20
    await asyncio.sleep(0)
    held_back.append(transport.reading_paused)
    assert held_back == [True, False]
    transport.lose()
    await site.calls.cancel_all(1)
