"""Files on real connections: a server on a socket, and clients that read or do not."""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from djserve.files import FileTable, Folder
from djserve.files import exchange as module
from djserve.interfaces import RequestHead
from djserve.server import factory
from djserve.testing.transport import MemoryTransport
from tests.server.sites import Site, on_loop
from tests.support.descriptors import open_descriptors
from tests.support.shortage import without_descriptors
from tests.support.waiting import settle, wait_until

SIZE = 3_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "big.bin").write_bytes(os.urandom(SIZE))
    return tmp_path


def in_real_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    """Run a test on a loop whose clock does not run ahead of the threads."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def open_site(root: Path) -> Site:
    return Site(files=FileTable([Folder(prefixes=("/f/",), path=str(root))]))


def get(path: str, *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *fields, "", ""]
    return "\r\n".join(lines).encode()


def content_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


async def read_all(transport: MemoryTransport, size: int) -> bytes:
    """Wait for a response whose content has ``size`` bytes."""
    await wait_until(lambda: len(content_of(transport.data)) >= size)
    return transport.data


@on_loop
async def test_file_is_answered_without_the_application(root: Path) -> None:
    site = open_site(root)
    transport = await site.send(get("/f/a.txt"))

    assert transport.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert content_of(transport.data) == b"hello"
    assert site.scopes == []
    assert site.log.statuses == [200]
    again = await site.send(get("/f/a.txt"))
    assert content_of(again.data) == b"hello"


@on_loop
async def test_folder_without_its_slash_keeps_the_query(root: Path) -> None:
    (root / "deep").mkdir()
    (root / "deep" / "index.html").write_bytes(b"deep")
    folder = Folder(prefixes=("/f/",), path=str(root), has_indexes=True)
    site = Site(files=FileTable([folder]))
    transport = site.connect()
    transport.feed(get("/f/deep?page=2"))

    assert b"HTTP/1.1 301 " in transport.data
    assert b"location: deep/?page=2\r\n" in transport.data


@on_loop
async def test_other_paths_are_the_applications(root: Path) -> None:
    site = open_site(root)
    await site.send(get("/f/none.txt"))

    assert [scope["path"] for scope in site.scopes] == ["/f/none.txt"]


@on_loop
async def test_empty_file_and_head_have_no_content(root: Path) -> None:
    site = open_site(root)
    empty = await site.send(get("/f/empty.txt"))
    head = await site.send(get("/f/big.bin", method="HEAD"))

    assert b"content-length: 0\r\n" in empty.data
    assert b"content-length: %d\r\n" % SIZE in head.data
    assert content_of(head.data) == b""


@on_loop
async def test_long_file_comes_whole_and_so_does_a_part(root: Path) -> None:
    site = open_site(root)
    whole = await site.send(get("/f/big.bin"))
    part = await site.send(get("/f/big.bin", "Range: bytes=1000-2000999"))
    content = (root / "big.bin").read_bytes()

    assert content_of(await read_all(whole, SIZE)) == content
    assert content_of(await read_all(part, 2_000_000)) == content[1000:2_001_000]
    assert site.log.statuses == [200, 206]


@on_loop
async def test_content_of_a_request_is_dropped(root: Path) -> None:
    site = open_site(root)
    body = b"x" * 100_000
    request = get("/f/a.txt", f"Content-Length: {len(body)}") + body
    transport = await site.send(request + get("/f/a.txt"))

    assert transport.data.count(b"HTTP/1.1 200 OK") == 2


@on_loop
async def test_requests_sent_ahead_leave_turns_to_others(root: Path) -> None:
    site = open_site(root)
    transport = site.connect()
    count = 3 * module.AT_ONCE_LIMIT
    transport.feed(get("/f/a.txt") * count)

    assert transport.data.count(b"200 OK") <= module.AT_ONCE_LIMIT + 1
    await settle()
    assert transport.data.count(b"200 OK") == count


@on_loop
async def test_client_that_does_not_read_has_one_piece_waiting(root: Path) -> None:
    site = open_site(root)
    transport = site.connect()
    transport.fill()
    transport.feed(get("/f/a.txt"))
    transport.drain()
    transport.feed(get("/f/big.bin"))
    transport.fill()
    await settle()
    waiting = len(transport.data)
    assert waiting < 2 * module.PIECE_SIZE

    transport.drain()
    await read_all(transport, SIZE)


@on_loop
async def test_client_that_goes_leaves_no_descriptor(root: Path) -> None:
    site = open_site(root)
    before = open_descriptors()
    transport = site.connect()
    transport.feed(get("/f/big.bin"))
    assert len(open_descriptors() - before) == 1
    transport.lose()
    await settle()

    assert open_descriptors() <= before
    assert site.log.statuses == [200]


@pytest.mark.parametrize("has_cache", [True, False])
@in_real_time
async def test_what_no_cache_has_is_read_in_a_thread(
    root: Path, monkeypatch: pytest.MonkeyPatch, has_cache: bool
) -> None:
    if has_cache:
        # As for pages that are on the disk alone.
        monkeypatch.setattr(module, "_read_cached", lambda *_: None)
    else:
        # As on systems without preadv2.
        monkeypatch.setattr(module, "_NOWAIT", None)
    site = open_site(root)
    transport = await site.send(get("/f/big.bin"))

    data = await read_all(transport, SIZE)
    assert content_of(data) == (root / "big.bin").read_bytes()


@on_loop
async def test_without_a_descriptor_for_the_thread_the_file_is_read_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_read_cached", lambda *_: None)
    site = open_site(root)
    transport = site.connect()
    with without_descriptors(spare=1):
        # The file itself takes the last one.
        transport.feed(get("/f/big.bin"))
        await settle(100)

    assert content_of(transport.data) == (root / "big.bin").read_bytes()


@on_loop
async def test_without_a_thread_the_file_is_read_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_read_cached", lambda *_: None)
    loop = asyncio.get_running_loop()
    # As it is at the end, and where no thread can be started.
    await loop.shutdown_default_executor()
    site = open_site(root)
    transport = await site.send(get("/f/big.bin"))
    await settle(100)

    assert content_of(transport.data) == (root / "big.bin").read_bytes()


@on_loop
async def test_file_that_has_changed_just_now_is_sent_as_it_is(root: Path) -> None:
    site = open_site(root)
    await site.send(get("/f/big.bin", method="HEAD"))
    (root / "big.bin").write_bytes(b"short")
    transport = await site.send(get("/f/big.bin"))

    assert b"content-length: 5\r\n" in transport.data
    assert content_of(transport.data) == b"short"


@on_loop
async def test_file_that_has_gone_just_now_is_not_found(root: Path) -> None:
    site = open_site(root)
    await site.send(get("/f/big.bin", method="HEAD"))
    (root / "big.bin").unlink()
    transport = await site.send(get("/f/big.bin"))

    assert transport.data.startswith(b"HTTP/1.1 404 ")
    assert site.log.statuses == [200, 404]


@on_loop
async def test_file_that_never_stays_the_same_is_an_error(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_current_at", lambda *_: False)
    site = open_site(root)
    transport = await site.send(get("/f/big.bin"))

    assert transport.data.startswith(b"HTTP/1.1 500 ")
    assert "big.bin: it changes all the time" in caplog.text


@in_real_time
async def test_file_that_becomes_shorter_breaks_off(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = open_site(root)
    transport = site.connect()
    transport.feed(get("/f/big.bin"))
    os.truncate(root / "big.bin", 300_000)
    await wait_until(lambda: transport.is_closing)

    assert "big.bin was aborted: it has become shorter" in caplog.text
    assert len(content_of(transport.data)) < SIZE


@on_loop
async def test_file_that_may_not_be_read_is_forbidden(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(root)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        # The tests may run as root, who may read everything.
        patch.setattr(os, "open", refuse)
        transport = await site.send(get("/f/a.txt"))

    assert transport.data.startswith(b"HTTP/1.1 403 ")
    assert "a.txt: Permission denied" in caplog.text


# Clients that do not read


async def open_stalled(site: Site, count: int) -> list[MemoryTransport]:
    """Return connections that have asked for a file and read its first piece alone."""
    transports = []
    for _ in range(count):
        transport = site.connect()
        transport.feed(get("/f/big.bin"))
        transport.fill()
        transports.append(transport)
    await settle()
    return transports


@pytest.fixture
def two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "open_file_limit", lambda: 2)


@on_loop
async def test_clients_that_do_not_read_hold_few_files(
    root: Path, two_files: None
) -> None:
    """What is closed is opened again for the next piece, and all of it arrives."""
    site = open_site(root)
    before = open_descriptors()
    transports = await open_stalled(site, 6)
    assert len(open_descriptors() - before) == 2

    for transport in reversed(transports):
        transport.drain()
        await settle()
        assert content_of(transport.data) == (root / "big.bin").read_bytes()
    assert open_descriptors() <= before
    assert site.log.statuses == [200] * 6


@pytest.mark.parametrize("is_removed", [True, False])
@on_loop
async def test_file_that_was_replaced_while_it_was_closed_is_broken_off(
    root: Path, two_files: None, is_removed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site = open_site(root)
    before = open_descriptors()
    transports = await open_stalled(site, 4)
    path = root / "big.bin"
    path.unlink()
    if not is_removed:
        path.write_bytes(b"other" * (SIZE // 5))
    # The last two are still open.
    transport = transports[0]
    transport.drain()
    await settle()

    assert transport.is_closing
    assert b"other" not in transport.data
    assert "was aborted: it was replaced" in caplog.text
    for other in transports[2:]:
        other.drain()
        await settle()
        assert len(content_of(other.data)) == SIZE
    transports[1].lose()
    await settle()
    assert open_descriptors() <= before


class DirectStream(asyncio.Protocol):
    """A response on a real socket, whose content is sent as it stands.

    ``directly`` counts what was not given to the transport.
    """

    exchange: module.FileExchange | None = None
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_writable = True
        self.directly = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        assert self.exchange is not None
        self.exchange.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.exchange is not None and self.exchange.is_running:
            self.exchange.connection_lost(exc)

    def find_direct_socket(self) -> Any:
        return self.transport.get_extra_info("socket")

    def get_write_buffer_size(self) -> int:
        return self.transport.get_write_buffer_size()

    def skip_content(self, size: int) -> None:
        self.directly += size

    def send_response(self, status: int, fields: Any, data: bytes, more: bool) -> None:
        self.send_data(data, more)

    def send_data(self, data: bytes, more: bool) -> None:
        self.transport.write(data)
        if not more:
            self.transport.close()


async def send_over_a_socket(
    root: Path, read: Callable[[asyncio.StreamReader], Coroutine[Any, Any, bytes]]
) -> tuple[bytes, int]:
    """Return what a client reads of the long file, and what went to it directly."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    table = FileTable([Folder(prefixes=("/f/",), path=str(root))])
    file = table.find(b"/f/big.bin")
    assert file is not None
    head = RequestHead("GET", b"/f/big.bin", b"", [], "1.1")
    _, stream = await loop.create_connection(DirectStream, sock=ours)
    sent: Any = stream
    service = module.FileService(table, loop)
    exchange = stream.exchange = module.FileExchange(service, file, head, sent)
    exchange.start()
    reader, writer = await asyncio.open_connection(sock=theirs)
    data = await read(reader)
    writer.close()
    await wait_until(lambda: not exchange.is_running)
    assert service.open_files == 0
    return data, stream.directly


@pytest.mark.parametrize(
    "cached", [[True], [False], [True, False], [True, True, False]]
)
@in_real_time
async def test_long_file_goes_to_the_socket_unread_if_it_is_cached(
    root: Path, monkeypatch: pytest.MonkeyPatch, cached: list[bool]
) -> None:
    turns = itertools.cycle(cached)
    monkeypatch.setattr(module, "is_cached", lambda *_: next(turns))
    before = open_descriptors()
    data, directly = await send_over_a_socket(root, lambda reader: reader.read())

    assert data == (root / "big.bin").read_bytes()
    assert (directly > 0) is (True in cached)
    await settle()
    assert open_descriptors() <= before


@in_real_time
async def test_client_that_goes_while_its_socket_is_full_leaves_no_descriptor(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_cached", lambda *_: True)
    before = open_descriptors()
    data, directly = await send_over_a_socket(root, lambda reader: reader.read(9))

    assert len(data) == 9
    assert directly < SIZE
    await settle()
    assert open_descriptors() <= before


@in_real_time
async def test_without_a_descriptor_for_the_socket_the_file_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "is_cached", lambda *_: True)
    monkeypatch.setattr(module, "DirectSender", refuse)
    data, directly = await send_over_a_socket(root, lambda reader: reader.read())

    assert data == (root / "big.bin").read_bytes()
    assert directly == 0
