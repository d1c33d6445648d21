"""Content of requests: in memory, on disk, over the limit, cut short."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from io import BytesIO
from typing import IO, Any

import pytest
from django.http import HttpRequest

from djserve.handlers import body
from djserve.handlers.body import (
    ContentLimits,
    ContentRefused,
    ContentTooLarge,
    ContentTooSlow,
    DiskSpaceTaken,
    declared_length,
    read_body,
    set_content_length,
    take_whole,
)
from djserve.handlers.disk import SpooledFile
from djserve.instrumentation.spooled import spooled_size
from tests.support.virtual_time import run_in_virtual_time


def read(
    chunks: list[bytes],
    *,
    memory: int = 1000,
    limit: int | None = None,
    end: bool = True,
    **options: Any,
) -> IO[bytes] | None:
    """Read content that comes in chunks; without ``end`` the client goes away."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    if end:
        messages[-1]["more_body"] = False
    messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return asyncio.run(read_all(receive, ContentLimits(memory, limit, **options)))


async def read_all(receive: Any, limits: ContentLimits) -> IO[bytes] | None:
    return await read_body(await receive(), receive, limits)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b""], id="nothing"),
        pytest.param([b"small"], id="one message"),
        pytest.param([b"a", b"", b"b" * 500], id="several, in memory"),
        pytest.param([b"a" * 1001], id="one message over the memory limit"),
        pytest.param([b"a" * 900, b"b" * 900, b"c" * 900], id="several, on disk"),
    ],
)
def test_content_is_complete_and_at_its_start(chunks: list[bytes]) -> None:
    file = read(chunks)

    assert file is not None
    with file:
        assert file.read() == b"".join(chunks)


def test_message_without_a_body_has_no_content() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    file = asyncio.run(read_all(receive, ContentLimits(10)))

    assert file is not None
    assert file.read() == b""


@pytest.mark.parametrize("chunks", [[], [b"a"], [b"a" * 2000, b"b"]])
def test_client_that_goes_away_leaves_nothing(chunks: list[bytes]) -> None:
    assert read(chunks, end=False) is None


@pytest.mark.parametrize("chunks", [[b"12345678901"], [b"123456", b"78901"]])
def test_content_over_the_limit_is_refused(chunks: list[bytes]) -> None:
    with pytest.raises(ContentTooLarge):
        read(chunks, limit=10)


def test_content_as_long_as_the_limit_is_taken() -> None:
    file = read([b"12345", b"67890"], limit=10)

    assert file is not None


def test_disk_is_written_to_in_large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []

    class Counting(SpooledFile):
        def writelines(self, chunks: Any) -> None:
            blocks.append(sum(map(len, chunks)))
            super().writelines(chunks)

    monkeypatch.setattr(body, "SpooledFile", Counting)
    file = read([b"x" * 10_000] * 1000)

    assert file is not None
    file.close()
    assert sum(blocks) == 10_000_000
    assert len(blocks) <= 12


def test_content_of_all_requests_shares_the_disk() -> None:
    first = read([b"x" * 3000], disk=5000)
    with pytest.raises(DiskSpaceTaken):
        read([b"x" * 3000], disk=5000)
    assert first is not None
    first.close()

    second = read([b"x" * 3000], disk=5000)

    assert second is not None
    second.close()
    assert spooled_size() == 0


@pytest.mark.parametrize(
    "options",
    [{"end": False}, {"limit": 4000}, {"disk": 4000}],
    ids=["client gone", "too large", "disk full"],
)
def test_content_that_is_given_up_takes_no_space(options: dict[str, Any]) -> None:
    with contextlib.suppress(ContentRefused):
        assert read([b"x" * 2000, b"y" * 1_500_000], **options) is None

    assert spooled_size() == 0


def test_content_that_is_in_memory_takes_no_disk() -> None:
    assert read([b"x" * 900], disk=0) is not None


def test_content_has_a_time() -> None:
    arrivals = 0

    async def receive() -> dict[str, Any]:
        nonlocal arrivals
        arrivals += 1
        await asyncio.sleep(10)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(ContentTooSlow):
        run_in_virtual_time(read_all(receive, ContentLimits(1000, seconds=95.0)))

    assert arrivals == 11


def test_content_that_nothing_reads_is_dropped() -> None:
    asked: list[int] = []

    async def is_wanted() -> bool:
        asked.append(spooled_size())
        return False

    file = read([b"x" * 2000] * 1000, disk=0, is_wanted=is_wanted)

    assert file is not None
    assert file.read() == b""
    assert asked == [0]


def test_content_that_something_may_read_is_kept() -> None:
    async def is_wanted() -> bool:
        return True

    file = read([b"x" * 2000] * 3, is_wanted=is_wanted)

    assert file is not None
    assert len(file.read()) == 6000
    file.close()


def test_dropped_content_has_a_limit_too() -> None:
    async def is_wanted() -> bool:
        return False

    with pytest.raises(ContentTooLarge):
        read([b"x" * 2000] * 3, limit=5000, is_wanted=is_wanted)


def test_memory_does_not_grow_with_the_content() -> None:
    chunk = b"x" * 65_536
    left = 640

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(chunk), "more_body": left > 0}

    tracemalloc.start()
    file = asyncio.run(read_all(receive, ContentLimits(1_000_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert file is not None
    file.close()
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"12")], 12),
        ([(b"content-length", b"-1")], 0),
        ([(b"content-length", b"a")], 0),
    ],
)
def test_declared_length(headers: list[tuple[bytes, bytes]], length: int) -> None:
    assert declared_length({"headers": headers}) == length


@pytest.mark.parametrize(
    ("content", "declared", "expected"),
    [
        pytest.param(b"12345", None, "5", id="not declared"),
        pytest.param(b"12345", "5", "5", id="declared"),
        pytest.param(b"12345", "nonsense", "nonsense", id="declared otherwise"),
        pytest.param(b"", None, None, id="no content"),
    ],
)
def test_length_of_what_was_read_is_set(
    content: bytes, declared: str | None, expected: str | None
) -> None:
    request, body = HttpRequest(), BytesIO(content)
    if declared is not None:
        request.META["CONTENT_LENGTH"] = declared
    set_content_length(request, body)

    assert request.META.get("CONTENT_LENGTH") == expected
    assert request.headers.get("Content-Length") == expected
    assert body.read() == content


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"type": "http.request", "body": b"12345"}, b"12345"),
        ({"type": "http.request"}, b""),
        ({"type": "http.request", "body": b"123456"}, None),
        ({"type": "http.request", "body": b"1", "more_body": True}, None),
        ({"type": "http.disconnect"}, None),
    ],
)
def test_small_content_in_one_message_is_taken_as_it_is(
    message: dict[str, Any], content: bytes | None
) -> None:
    for limits in ((5, 9), (9, 5)):
        file = take_whole(message, *limits)

        assert (file and file.read()) == content
