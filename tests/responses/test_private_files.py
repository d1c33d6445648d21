"""Files that the application names: on connections in memory, with real files."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from djserve.conf.parser import parse
from djserve.files import FileTable, Folder
from tests.server.sites import Site, on_loop
from tests.support.descriptors import open_descriptors
from tests.support.waiting import settle

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "private"
    (root / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"hello")
    (root / "deep" / "bill é.pdf").write_bytes(CONTENT)
    (root / "long.bin").write_bytes(CONTENT * 500)
    (tmp_path / "outside.txt").write_bytes(b"secret")
    (root / "out").symlink_to(tmp_path / "outside.txt")
    (root / "in").symlink_to(root / "a.txt")
    return root


class Views:
    """An application that answers as it is told."""

    def __init__(self, *fields: tuple[bytes, bytes], parts: int = 1) -> None:
        self.fields = list(fields)
        self.parts = parts
        self.status = 200
        self.sent = 0
        self.error: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": self.status}
        await send({**start, "headers": self.fields})
        try:
            for index in range(self.parts):
                more = index + 1 < self.parts
                body = {"type": "http.response.body", "body": b"own", "more_body": more}
                await send(body)
                self.sent += 1
        except OSError as error:
            self.error = error
            raise


def open_site(root: Path, views: Views, **files: Any) -> Site:
    config = parse({"FILES_INTERNAL": {"/private/": str(root)}})
    return Site(config, application=views, **files)


def named(target: bytes, *fields: tuple[bytes, bytes]) -> Views:
    return Views((b"X-Accel-Redirect", target), *fields)


def get(*fields: str, path: str = "/view", method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *fields, "", ""]
    return "\r\n".join(lines).encode()


def split(data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Return a response's status, fields and content."""
    head, _, content = data.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    pairs = (each.partition(b": ") for each in lines)
    fields = {name.lower(): value for name, _, value in pairs}
    return line.split()[1], fields, content


async def ask(root: Path, views: Views, request: bytes) -> Any:
    transport = await open_site(root, views).send(request)
    return split(transport.data)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 500])
@pytest.mark.parametrize("parts", [1, 3])
@on_loop
async def test_refusal_of_a_middleware_holds_the_file_back(
    root: Path, status: int, parts: int, caplog: pytest.LogCaptureFixture
) -> None:
    views = named(b"/private/a.txt", (b"Content-Length", b"%d" % (3 * parts)))
    views.status, views.parts = status, parts
    got, fields, content = await ask(root, views, get())

    assert (got, content) == (b"%d" % status, b"own" * parts)
    assert b"x-accel-redirect" not in fields
    (record,) = [r for r in caplog.records if r.name == "djserve.error"]
    assert "Did not send /private/a.txt, which GET /view names" in record.getMessage()


@on_loop
async def test_file_takes_the_contents_place_and_keeps_the_views_fields(
    root: Path,
) -> None:
    views = named(
        b"/private/deep/bill%20%C3%A9.pdf",
        (b"Content-Type", b"application/pdf"),
        (b"Content-Disposition", b'attachment; filename="bill.pdf"'),
        (b"Content-Length", b"3"),
        (b"ETag", b'"of the empty content"'),
        (b"Set-Cookie", b"a=b"),
        (b"Content-Security-Policy", b"sandbox"),
    )
    status, fields, content = await ask(root, views, get())

    assert status == b"200"
    assert content == CONTENT
    assert fields[b"content-type"] == b"application/pdf"
    assert fields[b"content-disposition"] == b'attachment; filename="bill.pdf"'
    assert fields[b"content-length"] == b"%d" % len(CONTENT)
    assert fields[b"set-cookie"] == b"a=b"
    assert fields[b"content-security-policy"] == b"sandbox"
    assert fields[b"cache-control"] == b"private"
    assert fields[b"x-content-type-options"] == b"nosniff"
    assert b"of the empty content" not in fields[b"etag"]
    assert b"x-accel-redirect" not in fields


@on_loop
async def test_views_cache_control_stands_and_a_missing_type_is_guessed(
    root: Path,
) -> None:
    views = named(
        b"/private/a.txt",
        (b"Content-Type", b""),
        (b"Cache-Control", b"max-age=5"),
        (b"X-Content-Type-Options", b"nosniff"),
    )
    transport = await open_site(root, views).send(get())
    _, fields, _ = split(transport.data)

    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert fields[b"cache-control"] == b"max-age=5"
    assert transport.data.lower().count(b"x-content-type-options") == 1


@on_loop
async def test_ranges_conditions_and_head_are_answered(root: Path) -> None:
    views = named(b"/private/long.bin")
    _, whole, _ = await ask(root, views, get(method="HEAD"))
    status, fields, content = await ask(root, views, get("Range: bytes=100-199"))
    etag = whole[b"etag"].decode()
    same, _, nothing = await ask(root, views, get(f"If-None-Match: {etag}"))
    beyond, refused, _ = await ask(root, views, get("Range: bytes=9999999-"))

    assert whole[b"content-length"] == b"%d" % (len(CONTENT) * 500)
    assert (status, content) == (b"206", (CONTENT * 500)[100:200])
    assert fields[b"content-range"] == b"bytes 100-199/%d" % (len(CONTENT) * 500)
    assert (same, nothing) == (b"304", b"")
    assert beyond == b"416"
    assert refused[b"content-range"] == b"bytes */%d" % (len(CONTENT) * 500)


@on_loop
async def test_what_was_posted_is_answered_with_the_file(root: Path) -> None:
    request = get("Content-Length: 2", method="POST") + b"ab"
    status, _, content = await ask(root, named(b"/private/in"), request)

    assert (status, content) == (b"200", b"hello")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/private/none.txt", b"404"),
        (b"/private/", b"404"),
        (b"/private/deep", b"404"),
        (b"/private/../outside.txt", b"404"),
        (b"/private/%2e%2e/outside.txt", b"404"),
        (b"/private/deep/..%2f..%2foutside.txt", b"404"),
        (b"/private//../outside.txt", b"404"),
        (b"/private/out", b"404"),
        (b"/private/a.txt%00", b"404"),
        (b"/private/a.txt/", b"404"),
        (b"/private//a.txt", b"200"),
        (b"/private/./a.txt?x=y", b"200"),
        (b"/private", b"404"),
        (b"/elsewhere/a.txt", b"404"),
        (b"@named", b"404"),
        (b"", b"404"),
        (b"/private/" + b"x" * 5000, b"404"),
    ],
)
def test_only_files_of_the_folder_are_sent(
    root: Path, target: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    @on_loop
    async def run() -> None:
        site = open_site(root, named(target))
        transport = await site.send(get() + get())
        got = split(transport.data)[0]
        assert got == status
        assert b"secret" not in transport.data
        # The connection goes on, and each request is in the log once.
        assert transport.data.count(b"HTTP/1.1 ") == 2
        assert site.log.statuses == [int(status)] * 2

    with caplog.at_level(logging.ERROR, "djserve.error"):
        run()
    assert len(caplog.records) == (0 if status == b"200" else 2)


def test_file_that_cannot_be_read_is_forbidden(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.txt").chmod(0)
    if os.geteuid() == 0:
        # Nothing is forbidden to root.
        monkeypatch.setattr(os, "access", lambda path, mode: False)

    @on_loop
    async def run() -> None:
        assert (await ask(root, named(b"/private/a.txt"), get()))[0] == b"403"

    run()


@pytest.mark.parametrize(
    "path", ["/private/a.txt", "/private/", "/%70rivate/a.txt", "/private/none"]
)
def test_prefix_is_not_for_clients(root: Path, path: str) -> None:
    @on_loop
    async def run() -> None:
        views = Views()
        table = FileTable(
            [Folder(prefixes=("/", "/private/"), path=str(root))], hidden=()
        )
        site = open_site(root, views, files=table)
        transport = await site.send(get(path=path))
        assert split(transport.data)[0] == b"404"
        assert views.sent == 0

    run()


@on_loop
async def test_field_is_nothing_to_a_server_without_the_setting(root: Path) -> None:
    site = Site(application=named(b"/private/a.txt"))
    transport = await site.send(get())
    status, fields, content = split(transport.data)

    assert (status, content) == (b"200", b"own")
    assert fields[b"x-accel-redirect"] == b"/private/a.txt"


@on_loop
async def test_other_responses_pass(root: Path) -> None:
    site = open_site(root, Views((b"Content-Type", b"text/plain"), parts=3))
    transport = await site.send(get())

    assert transport.data.count(b"own") == 3
    assert site.log.statuses == [200]


@on_loop
async def test_application_that_streams_is_told_that_no_one_reads(root: Path) -> None:
    views = named(b"/private/a.txt")
    views.parts = 1_000_000
    site = open_site(root, views)
    transport = await site.send(get())
    await settle()

    assert split(transport.data)[2] == b"hello"
    assert isinstance(views.error, OSError)
    assert views.sent < 3
    assert len(site.calls) == 0
    assert site.log.statuses == [200]


@on_loop
async def test_application_that_fails_after_naming_a_file_breaks_nothing(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Views):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            raise RuntimeError("after the response")

    views = Failing((b"X-Accel-Redirect", b"/private/a.txt"))
    site = open_site(root, views)
    transport = await site.send(get() + get())

    assert transport.data.count(b"hello") == 2
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@on_loop
async def test_malformed_field_beside_is_the_applications_fault(root: Path) -> None:
    views = named(b"/private/a.txt", (b"X-Bad", b"a\r\nSet-Cookie: b"))
    status, _, content = await ask(root, views, get())

    assert status == b"500"
    assert b"hello" not in content


@on_loop
async def test_client_that_goes_leaves_no_descriptor_and_one_line(root: Path) -> None:
    site = open_site(root, named(b"/private/long.bin"))
    before = open_descriptors()
    transport = site.connect()
    transport.feed(get())
    transport.fill()
    await settle()
    transport.lose()
    await settle()

    assert not open_descriptors() - before
    assert len(site.log.statuses) == 1
    assert len(site.calls) == 0


@on_loop
async def test_slow_client_gets_all_of_a_long_file(root: Path) -> None:
    site = open_site(root, named(b"/private/long.bin"))
    transport = site.connect()
    transport.feed(get())
    transport.fill()
    for _ in range(20):
        transport.fill()
        await settle()
        transport.drain()
        await settle()

    assert split(transport.data)[2] == CONTENT * 500


def test_file_replaced_while_it_is_opened_is_described_again(root: Path) -> None:
    from djserve.responses.private_files import PrivateFiles

    loop = asyncio.new_event_loop()
    try:
        files = PrivateFiles([("/private/", str(root))], loop)
        file = files.find(b"/private/a.txt", [(b"x-kept", b"1")])
        (root / "a.txt").write_bytes(b"longer than before")
        assert files.refresh(file)
        assert file.representations[0].size == 18
        assert (b"x-kept", b"1") in file.representations[0].fields
        (root / "a.txt").unlink()
        assert not files.refresh(file)
    finally:
        loop.close()


@pytest.mark.parametrize("name", ["a.txt", "deep/bill é.pdf"])
def test_link_that_took_a_files_place_does_not_lead_out(root: Path, name: str) -> None:
    from djserve.responses.private_files import PrivateFiles

    loop = asyncio.new_event_loop()
    try:
        files = PrivateFiles([("/private/", str(root))], loop)
        file = files.find(b"/private/" + name.encode(), [])
        outside = root.parent / "outside"
        outside.mkdir()
        for each in ("a.txt", "bill é.pdf"):
            (outside / each).write_bytes(b"secret")
        # The file itself, or the folder around it.
        place = root / name.partition("/")[0]
        place.rename(root / "old")
        place.symlink_to(outside / place.name if place.name == "a.txt" else outside)

        assert not files.refresh(file)
    finally:
        loop.close()
