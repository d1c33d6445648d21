"""Compressed responses on connections in memory, decoded as they come."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import h2.connection
import h2.events
import pytest

from djserve.conf.parser import parse
from djserve.responses import codecs
from djserve.responses import compression as module
from djserve.responses.filters import describe_compression
from djserve.testing.live import LiveServer
from djserve.testing.transport import MemoryTransport
from tests.files.test_exchange import in_real_time
from tests.server.sites import Site, on_loop
from tests.support.decoding import CODINGS, open_decoder
from tests.support.turns import TurnCounts
from tests.support.waiting import PATIENCE, settle, wait_until

HTML = (b"Content-Type", b"text/html")
EVENTS = (b"Content-Type", b"text/event-stream")
TEXT = b"<p>some text, as there is in any page</p>\n" * 200


class Views:
    """An application that sends parts, each when it is let go on."""

    def __init__(self, *parts: bytes, fields: Any = (HTML,), status: int = 200) -> None:
        self.parts = parts
        self.fields = list(fields)
        self.status = status
        self.steps: asyncio.Semaphore | None = None
        self.sent = 0
        self.error: BaseException | None = None
        self.trailers: Any = None
        self.more_at_the_end = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": self.status}
        start["headers"] = self.fields
        start["trailers"] = self.trailers is not None
        try:
            await send(start)
            for index, part in enumerate(self.parts):
                if self.steps is not None:
                    await self.steps.acquire()
                more = index + 1 < len(self.parts) or self.more_at_the_end
                body = {"type": "http.response.body", "body": part, "more_body": more}
                await send(body)
                self.sent += 1
            if self.trailers is not None:
                trailers = {"type": "http.response.trailers", "headers": self.trailers}
                await send(trailers)
        except Exception as error:
            self.error = error
            raise


class Sizes:
    def __init__(self) -> None:
        self.lines: list[tuple[int, int]] = []

    def request_finished(self, record: Any) -> None:
        self.lines.append((record.status, record.size))


def open_site(application: Callable[..., Awaitable[None]], **settings: Any) -> Site:
    site = Site(parse({"COMPRESSION": True, **settings}), application=application)
    site.log.request_finished = Sizes().request_finished  # type: ignore[method-assign]
    return site


def lines_of(site: Site) -> list[tuple[int, int]]:
    lines: list[tuple[int, int]] = site.log.request_finished.__self__.lines  # type: ignore[attr-defined]
    return lines


def has_ended(site: Site) -> bool:
    return bool(lines_of(site))


def get(coding: str = "gzip", method: str = "GET", *fields: str) -> bytes:
    lines = [f"{method} / HTTP/1.1", "Host: a", f"Accept-Encoding: {coding}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def split(data: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Return a response's fields and content, without the chunks around it."""
    head, _, content = data.partition(b"\r\n\r\n")
    pairs = (line.partition(b": ") for line in head.split(b"\r\n")[1:])
    fields = {name.lower(): value for name, _, value in pairs}
    if fields.get(b"transfer-encoding") == b"chunked":
        content = b"".join(read_chunks(content))
    return fields, content


def read_chunks(data: bytes) -> list[bytes]:
    chunks = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        chunks.append(data[:length])
        data = data[length + 2 :]
        if not length:
            break
    return chunks


@pytest.mark.parametrize("coding", CODINGS)
def test_whole_response_is_compressed(coding: str) -> None:
    @on_loop
    async def run() -> None:
        given = [HTML, (b"Content-Length", b"%d" % len(TEXT)), (b"ETag", b'"a"')]
        site = open_site(Views(TEXT, fields=given))
        transport = await site.send(get(coding))
        fields, content = split(transport.data)

        assert fields[b"content-encoding"] == coding.encode()
        assert fields[b"content-length"] == b"%d" % len(content)
        assert fields[b"etag"] == b'W/"a"'
        assert fields[b"vary"] == b"Accept-Encoding"
        assert open_decoder(coding)(content) == TEXT
        assert lines_of(site) == [(200, len(content))]

    run()


@on_loop
async def test_client_that_accepts_none_is_told_that_others_may() -> None:
    site = open_site(Views(TEXT))
    for request in (get("identity"), get("gzip", "HEAD")):
        fields, content = split((await site.send(request)).data)
        assert b"content-encoding" not in fields
        assert fields[b"vary"] == b"Accept-Encoding"
        assert content in (TEXT, b"")


@on_loop
async def test_content_that_gets_no_shorter_goes_out_as_it_is() -> None:
    noise = random.Random(1).randbytes(2000)
    transport = await open_site(Views(noise)).send(get())
    fields, content = split(transport.data)

    assert b"content-encoding" not in fields
    assert content == noise


@on_loop
async def test_connection_goes_on_after_each_kind_of_response() -> None:
    site = open_site(Views(TEXT, TEXT))
    transport = await site.send(get() * 3)

    assert transport.data.count(b"HTTP/1.1 200 OK") == 3
    assert transport.data.count(b"content-encoding: gzip") == 3


@pytest.mark.parametrize("coding", CODINGS)
def test_event_stream_comes_part_by_part(coding: str) -> None:
    @on_loop
    async def run() -> None:
        parts = [b"data: %d\n\n" % number for number in range(20)]
        views = Views(*parts, fields=[EVENTS])
        steps = views.steps = asyncio.Semaphore(0)
        site = open_site(views)
        transport = await site.send(get(coding))
        decode = open_decoder(coding)
        seen = 0
        for part in parts:
            steps.release()
            await settle()
            content = split(transport.data)[1]
            assert decode(content[seen:]) == part
            seen = len(content)
        assert transport.data.endswith(b"\r\n0\r\n\r\n")
        assert lines_of(site) == [(200, seen)]

    run()


@on_loop
async def test_parts_of_one_turn_become_one_block() -> None:
    parts = [b"%d,some,row,of,a,table\n" % number for number in range(2000)]
    transport = await open_site(Views(*parts)).send(get())
    _, _, body = transport.data.partition(b"\r\n\r\n")
    chunks = read_chunks(body)

    assert open_decoder("gzip")(b"".join(chunks)) == b"".join(parts)
    assert len(chunks) < 100


@on_loop
async def test_parts_of_a_known_length_are_not_flushed_one_by_one() -> None:
    parts = [TEXT[start : start + 100] for start in range(0, len(TEXT), 100)]
    given = [HTML, (b"Content-Length", b"%d" % len(TEXT))]
    transport = await open_site(Views(*parts, fields=given)).send(get())
    fields, content = split(transport.data)

    assert fields[b"transfer-encoding"] == b"chunked"
    assert open_decoder("gzip")(content) == TEXT
    assert transport.data.partition(b"\r\n\r\n")[2].count(b"\r\n") < 10


@on_loop
async def test_broken_promise_of_a_length_is_the_applications_fault() -> None:
    fields = [HTML, (b"Content-Length", b"1000")]
    for parts in ((TEXT,), (b"a" * 600, b"b" * 600), (b"a" * 600, b"b")):
        views = Views(*parts, fields=fields)
        site = open_site(views)
        transport = await site.send(get())
        assert views.error is not None
        assert "Content-Length" in str(views.error)
        if len(parts) == 1:
            assert transport.data.startswith(b"HTTP/1.1 500 ")
        assert not transport.data.endswith(b"0\r\n\r\n")
        assert len(lines_of(site)) == 1


@on_loop
async def test_too_long_a_first_part_is_answered_with_500() -> None:
    fields = [HTML, (b"Content-Length", b"1000")]
    site = open_site(Views(TEXT, b"more", fields=fields))
    transport = await site.send(get())

    assert transport.data.startswith(b"HTTP/1.1 500 ")
    assert [status for status, _ in lines_of(site)] == [500]


@on_loop
async def test_trailers_follow_the_end_of_the_content() -> None:
    views = Views(TEXT)
    views.trailers = [(b"x-sum", b"1")]
    request = get("gzip", "GET", "TE: trailers", "Connection: TE")
    transport = await open_site(views).send(request)
    _, _, body = transport.data.partition(b"\r\n\r\n")
    content, _, trailers = body.partition(b"\r\n0\r\n")

    chunks = read_chunks(content + b"\r\n")
    assert open_decoder("gzip")(b"".join(chunks)) == TEXT
    assert trailers == b"x-sum: 1\r\n\r\n"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("count", [1, 4])
def test_long_content_is_compressed_in_a_thread(
    coding: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    encode = module._encode

    def note(*args: Any) -> bytes:
        threads.add(threading.current_thread())
        return encode(*args)

    monkeypatch.setattr(module, "_encode", note)
    content = random.Random(2).randbytes(1500) * 2000

    @in_real_time
    async def run() -> None:
        site = open_site(Views(*[content] * count))
        transport = site.connect()
        transport.feed(get(coding) + get(coding))
        await wait_until(lambda: len(lines_of(site)) == 2)
        first, _, second = transport.data.partition(b"\r\n0\r\n\r\n")
        for data in (first + b"\r\n0\r\n\r\n", second):
            assert open_decoder(coding)(split(data)[1]) == content * count
        assert len(site.calls) == 0

    run()
    assert threading.main_thread() not in threads


@pytest.mark.e2e
def test_responses_of_one_turn_are_compressed_in_threads_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await Views(content)(scope, receive, send)

    content = b"<p>some text</p>\n" * 3000
    turns = TurnCounts()
    threads = set()
    working: list[int] = [0]
    lock = threading.Lock()
    encode = module._encode

    def note(*args: Any) -> bytes:
        with lock:
            threads.add(threading.current_thread().name)
            working.append(working[-1] + 1)
        try:
            return encode(*args)
        finally:
            with lock:
                working.append(working[-1] - 1)

    monkeypatch.setattr(module, "_encode", note)
    monkeypatch.setattr(module, "count_cpus", lambda: 1)
    turns.count_calls(
        monkeypatch,
        module.CompressedResponse,
        "_send_at_once",
        lambda response, status, plan, data: len(data),
    )
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    fields += [(":authority", "a"), ("accept-encoding", "gzip")]
    for number in range(100):
        client.send_headers(2 * number + 1, fields, end_stream=True)
    contents: dict[int, bytes] = {}
    ended = 0
    with (
        LiveServer(
            application, settings={"LIFESPAN": "off", "COMPRESSION": True}
        ) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        while ended < 100:
            sock.sendall(client.data_to_send())
            for event in client.receive_data(sock.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    data = contents.get(event.stream_id, b"") + event.data
                    contents[event.stream_id] = data
                ended += isinstance(event, h2.events.StreamEnded)

    assert all(open_decoder("gzip")(data) == content for data in contents.values())
    assert len(contents) == 100
    assert 0 < turns.most <= module.TURN_SIZE
    assert turns.total < 100 * len(content)
    assert threads
    assert "djserve-live-server" not in threads
    assert max(working) == 1


def test_client_that_goes_while_it_waits_for_a_thread_leaves_it_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = random.Random(4).randbytes(1500) * 200
    began, may_go_on = threading.Event(), threading.Event()
    encode = module._encode
    sizes = []

    def encode_later(*args: Any) -> bytes:
        began.set()
        assert may_go_on.wait(PATIENCE)
        sizes.append(len(args[1]))
        return encode(*args)

    monkeypatch.setattr(module, "_encode", encode_later)
    monkeypatch.setattr(module, "count_cpus", lambda: 1)

    @in_real_time
    async def run() -> None:
        site = open_site(Views(content))
        first, second, third = (site.connect() for _ in range(3))
        for transport in (first, second, third):
            transport.feed(get())
        await wait_until(began.is_set)
        await settle()
        second.lose()
        may_go_on.set()
        await wait_until(lambda: len(lines_of(site)) == 3)
        for transport in (first, third):
            assert open_decoder("gzip")(split(transport.data)[1]) == content

    run()
    assert sizes == [len(content)] * 2


def test_client_that_does_not_read_holds_the_application_up() -> None:
    content = random.Random(3).randbytes(200_000)

    @in_real_time
    async def run() -> None:
        views = Views(*[content] * 50)
        site = open_site(views)
        transport = site.connect()
        transport.feed(get())
        await wait_until(lambda: len(transport.data) > 0)
        transport.fill()
        await settle()
        before = views.sent
        await asyncio.sleep(0.1)
        assert views.sent - before < 3
        for _ in range(20):
            transport.drain()
            await settle()
            transport.fill()
        transport.drain()
        await wait_until(lambda: bool(lines_of(site)))
        assert open_decoder("gzip")(split(transport.data)[1]) == content * 50

    run()


def test_client_that_does_not_read_a_whole_response_has_a_piece_waiting() -> None:
    content = random.Random(4).randbytes(20 * module.PIECE_SIZE)

    @in_real_time
    async def run() -> None:
        site = open_site(Views(content))
        transport = site.connect()
        transport.feed(get())
        await wait_until(lambda: len(transport.data) > 0)
        transport.fill()
        before = len(transport.data)
        await asyncio.sleep(0.1)
        assert len(transport.data) < before + 2 * module.PIECE_SIZE
        (connection,) = site.factory.connections
        assert connection.held_size > 10 * module.PIECE_SIZE
        transport.lose()
        await settle()
        assert [status for status, _ in lines_of(site)] == [200]
        assert len(site.calls) == 0

    run()


def test_client_that_goes_ends_the_stream() -> None:
    content = os.urandom(100_000)

    @in_real_time
    async def run() -> None:
        views = Views(*[content] * 1000)
        site = open_site(views)
        transport = site.connect()
        transport.feed(get())
        await wait_until(lambda: views.sent > 2)
        transport.lose()
        await wait_until(lambda: views.error is not None)
        assert isinstance(views.error, OSError)
        assert views.sent < 1000
        assert len(lines_of(site)) == 1

    run()


@on_loop
async def test_application_that_fails_breaks_the_response_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    views = Views(TEXT, TEXT)
    views.more_at_the_end = True
    site = open_site(views)
    transport = await site.send(get())

    assert b"content-encoding: gzip" in transport.data
    assert not transport.data.endswith(b"0\r\n\r\n")
    assert transport.is_closing
    assert len(caplog.records) == 1
    assert len(lines_of(site)) == 1


def test_encoder_that_fails_is_logged_and_breaks_the_response_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr(module, "_encode", fail)

    @in_real_time
    async def run() -> None:
        site = open_site(Views(TEXT * 50, TEXT))
        transport: MemoryTransport = site.connect()
        transport.feed(get())
        await wait_until(lambda: transport.is_closing)
        await wait_until(lambda: len(site.calls) == 0)

    with caplog.at_level(logging.ERROR):
        run()
    assert any("Cannot compress" in record.message for record in caplog.records)


@pytest.mark.parametrize("parts", [(TEXT * 50, TEXT), (TEXT, TEXT * 50)])
@on_loop
async def test_without_a_thread_the_response_is_broken_off(
    parts: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    # As it is at the end, and where no thread can be started.
    await asyncio.get_running_loop().shutdown_default_executor()
    site = open_site(Views(*parts))
    transport = await site.send(get())
    await settle()

    assert transport.is_closing
    assert len(site.calls) == 0
    assert "Cannot compress" in caplog.text


@on_loop
async def test_compressed_already_is_not_compressed_again() -> None:
    fields = [HTML, (b"Content-Encoding", b"br")]
    transport = await open_site(Views(TEXT, fields=fields)).send(get())

    assert transport.data.lower().count(b"content-encoding") == 1
    assert transport.data.endswith(TEXT)


def test_start_up_message_names_the_codings_and_what_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    on = parse({"COMPRESSION": True}).compression
    assert describe_compression(parse({}).compression) == []
    assert describe_compression(on) == ["Responses are compressed: zstd, br, gzip"]
    monkeypatch.setitem(sys.modules, "brotli", None)
    (line,) = describe_compression(on)
    assert line.startswith("Responses are compressed: zstd, gzip (for br: pip install")


def test_encoder_is_freed_at_the_end_without_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    living: weakref.WeakSet[Any] = weakref.WeakSet()
    make = codecs._Gzip

    class Noted(make):  # type: ignore[valid-type, misc]
        def __init__(self, size: int | None) -> None:
            super().__init__(size)
            living.add(self)

    monkeypatch.setattr(codecs, "_Gzip", Noted)

    @in_real_time
    async def run() -> None:
        gc.disable()
        try:
            for parts in ((TEXT,), (TEXT, TEXT), (TEXT * 100,)):
                site = open_site(Views(*parts))
                transport = site.connect()
                transport.feed(get())
                await wait_until(partial(has_ended, site))
                assert b"content-encoding: gzip" in transport.data
            lost = open_site(Views(TEXT, TEXT))
            lost_views = lost.connect()
            lost_views.feed(get())
            lost_views.lose()
            await settle()
            await wait_until(lambda: not living)
        finally:
            gc.enable()

    run()


@on_loop
async def test_response_that_fails_leaves_the_thread_to_others() -> None:
    loop = asyncio.get_running_loop()
    share = module.LoopShare(loop)
    began = []

    def begin(number: int) -> asyncio.Future[bytes]:
        began.append(number)
        if number == 1:
            raise RuntimeError("can't start new thread")
        return loop.create_future()

    share._thread_limit = 1
    running: asyncio.Future[bytes] = loop.create_future()
    share.use_thread(lambda: running)
    for number in range(1, 3):
        share.use_thread(partial(begin, number))
    running.set_result(b"")
    await settle()

    assert began == [1, 2]
