"""Responses as messages: field lines, parts, streams, files and their ranges."""

from __future__ import annotations

import asyncio
import gzip
import io
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files import File
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)

from djserve.handlers.responses import (
    PATHSEND,
    WINDOW,
    ZEROCOPYSEND,
    answer_range,
    encode_headers,
    plan_file,
    send_async_stream,
    send_content,
    send_refusal,
    send_sync_stream,
    start_message,
)
from djserve.handlers.threads.hops import LeasedHops
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool


class Sent(list[dict[str, Any]]):
    async def __call__(self, message: Any) -> None:
        self.append(message)


def test_field_lines_keep_their_case_and_cookies_come_last() -> None:
    response = HttpResponse(headers={"X-Name": "caf\u00e9"})
    response.set_cookie("a", "b")
    headers = encode_headers(response)

    assert (b"X-Name", b"caf\xe9") in headers
    assert headers[-1] == (b"Set-Cookie", b"a=b; Path=/")


def test_start_message_has_status_and_headers() -> None:
    message = start_message(HttpResponse(status=204))

    assert (message["type"], message["status"]) == ("http.response.start", 204)


@pytest.mark.parametrize(
    ("content", "sizes"),
    [(b"", [0]), (b"abcd", [4]), (b"abcde", [4, 1]), (b"abcdefgh", [4, 4])],
)
def test_content_is_sent_in_chunks(content: bytes, sizes: list[int]) -> None:
    sent = Sent()
    asyncio.run(send_content(sent, content, 4))

    assert [len(message["body"]) for message in sent] == sizes
    more = [message.get("more_body", False) for message in sent]
    assert more == [True] * (len(sent) - 1) + [False]


def test_refusal_is_a_complete_response() -> None:
    sent = Sent()
    asyncio.run(send_refusal(sent, 503, "Full", (b"retry-after", b"1")))

    assert sent[0]["status"] == 503
    assert sent[0]["headers"][-1] == (b"retry-after", b"1")
    assert sent[1]["body"] == b"Full"


CHUNK = 1000
VARIABLE: ContextVar[str] = ContextVar("variable", default="unbound")

Send = Callable[[Any], Coroutine[Any, Any, None]]


def collect(sent: list[bytes]) -> Send:
    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    return send


def stream(parts: Iterator[bytes], send: Send) -> None:
    """Stream a synchronous iterator from a thread."""
    pool = ThreadPool(1)

    async def main() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        hops = LeasedHops(Lease(pool, held=True), mailbox)
        response = StreamingHttpResponse(parts)
        async with asyncio.timeout(60):
            try:
                await send_sync_stream(send, response, CHUNK, hops, mailbox)
            finally:
                hops.release()

    try:
        asyncio.run(main())
    finally:
        assert pool.close(60)


def test_parts_arrive_in_order_and_end_with_an_empty_message() -> None:
    sent: list[bytes] = []
    stream((b"%d" % n for n in range(100)), collect(sent))

    assert sent == [*(b"%d" % n for n in range(100)), b""]


def test_large_part_is_sent_in_chunks() -> None:
    sent: list[bytes] = []
    stream(iter([b"x" * 2500]), collect(sent))

    assert [len(chunk) for chunk in sent] == [1000, 1000, 500, 0]


def test_part_is_sent_before_the_next_one_is_there() -> None:
    seen = threading.Event()
    sent: list[bytes] = []

    def parts() -> Iterator[bytes]:
        yield b"first"
        assert seen.wait(60)
        yield b"second"

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        seen.set()

    stream(parts(), send)
    assert sent == [b"first", b"second", b""]


def test_iterator_runs_in_one_thread_only() -> None:
    idents: set[int] = set()

    def parts() -> Iterator[bytes]:
        for _ in range(20):
            idents.add(threading.get_ident())
            yield b"x" * WINDOW

    stream(parts(), collect([]))
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_iterator_keeps_its_context_variables_over_pauses() -> None:
    seen: list[str] = []

    def parts() -> Iterator[bytes]:
        token = VARIABLE.set("bound")
        # Each fills a window, so the next one is drawn later.
        for _ in range(3):
            yield b"x" * WINDOW
            seen.append(VARIABLE.get())
        VARIABLE.reset(token)
        seen.append(VARIABLE.get())

    assert VARIABLE.get() == "unbound"
    stream(parts(), collect([]))

    assert seen == ["bound"] * 3 + ["unbound"]
    assert VARIABLE.get() == "unbound"


def test_iterator_is_ahead_of_a_slow_client_by_a_window_at_most() -> None:
    part = b"x" * (WINDOW // 8)
    drawn, sent, ahead = 0, 0, 0

    def parts() -> Iterator[bytes]:
        nonlocal drawn
        for _ in range(100):
            drawn += len(part)
            yield part

    async def send(message: Any) -> None:
        nonlocal sent, ahead
        await asyncio.sleep(0)
        ahead = max(ahead, drawn - sent)
        sent += len(message.get("body", b""))

    stream(parts(), send)
    assert sent == drawn == 100 * len(part)
    assert ahead <= WINDOW + 2 * len(part)


def test_error_of_the_iterator_comes_after_its_parts() -> None:
    sent: list[bytes] = []

    def parts() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        stream(parts(), collect(sent))
    assert sent == [b"first"]


def test_client_that_cannot_be_sent_to_stops_the_iterator() -> None:
    drawn: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(1000):
            drawn.append(number)
            yield b"x" * WINDOW

    async def send(message: Any) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        stream(parts(), send)
    assert len(drawn) <= 2


def test_asynchronous_iterator_runs_on_the_loop() -> None:
    sent: list[bytes] = []
    idents: set[int] = set()

    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            idents.add(threading.get_ident())
            yield b"%d" % number

    response = StreamingHttpResponse(parts())
    asyncio.run(send_async_stream(collect(sent), response, CHUNK))

    assert sent == [b"0", b"1", b"2", b""]
    assert idents == {threading.get_ident()}


def test_asynchronous_iterator_is_closed_before_the_error_goes_on() -> None:
    closed: list[bool] = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        raise OSError("gone")

    async def main() -> list[bool]:
        with pytest.raises(OSError, match="gone"):
            await send_async_stream(send, StreamingHttpResponse(parts()), CHUNK)
        return list(closed)

    assert asyncio.run(main()) == [True]


def test_iterator_that_waits_for_a_coroutine_is_interrupted() -> None:
    ended: list[str] = []
    waits = threading.Event()

    async def wait_for_ever() -> None:
        waits.set()
        await asyncio.sleep(36_000)

    def parts() -> Iterator[bytes]:
        try:
            yield b"first"
            # The second wait begins after the first has been cancelled.
            with pytest.raises(asyncio.CancelledError):
                async_to_sync(wait_for_ever)()
            async_to_sync(wait_for_ever)()
        finally:
            ended.append("iterator")

    async def send(message: Any) -> None:
        # An iterator that has not been asked for more would not be entered again.
        await asyncio.to_thread(waits.wait, 60)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        stream(parts(), send)
    assert ended == ["iterator"]


GET: dict[str, Any] = {"method": "GET", "headers": []}
BOTH: dict[str, Any] = {**GET, "extensions": {PATHSEND: {}, ZEROCOPYSEND: {}}}
ZERO_COPY: dict[str, Any] = {**GET, "extensions": {ZEROCOPYSEND: {}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"0123456789")
    return path


def plan(scope: dict[str, Any], response: HttpResponseBase) -> Any:
    try:
        return plan_file(scope, response)
    finally:
        close(response)


def close(response: HttpResponseBase) -> None:
    # Not response.close(): its signal looks after the database, too.
    for close in response._resource_closers:  # type: ignore[attr-defined]
        close()


def test_whole_file_is_sent_by_its_path(path: Path) -> None:
    message = plan(BOTH, FileResponse(path.open("rb")))

    assert message == {"type": PATHSEND, "path": str(path)}


def test_file_that_is_sent_by_its_path_is_not_held_as_well(path: Path) -> None:
    file = path.open("rb")
    response = FileResponse(file)
    plan_file(BOTH, response)

    assert file.closed
    close(response)


def test_file_of_django_is_sent_too(path: Path) -> None:
    message = plan(BOTH, FileResponse(File(path.open("rb"))))

    assert message["path"] == str(path)


def test_open_file_is_sent_where_paths_are_not(path: Path) -> None:
    file = path.open("rb")
    message = plan(ZERO_COPY, FileResponse(file))

    assert message.pop("file").file is file
    assert message == {"type": ZEROCOPYSEND, "offset": 0, "count": 10}


def test_rest_of_a_file_is_sent_from_its_position(path: Path) -> None:
    file = path.open("rb")
    file.seek(4)
    message = plan(BOTH, FileResponse(file))

    assert (message["type"], message["offset"], message["count"]) == (
        ZEROCOPYSEND,
        4,
        6,
    )


def test_file_that_was_replaced_is_not_sent_by_its_path(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    path.unlink()
    path.write_bytes(b"something else")

    assert plan(BOTH, response)["type"] == ZEROCOPYSEND


def test_file_that_is_gone_is_not_sent_by_its_path(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    path.unlink()

    assert plan(BOTH, response)["type"] == ZEROCOPYSEND


def test_content_that_is_not_the_files_own_goes_through_python(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    response.streaming_content = (part.upper() for part in [b"a"])

    assert plan(BOTH, response) is None


def test_part_of_a_file_goes_through_python(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    response["Content-Length"] = "3"

    assert plan(BOTH, response) is None


def test_compressed_file_that_is_unpacked_goes_through_python(tmp_path: Path) -> None:
    packed = tmp_path / "file.gz"
    packed.write_bytes(gzip.compress(b"0123456789" * 100))
    response = FileResponse(gzip.GzipFile(packed))
    response["Content-Length"] = str(packed.stat().st_size)

    assert plan(BOTH, response) is None


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(lambda: FileResponse(io.BytesIO(b"x")), id="memory"),
        pytest.param(lambda: FileResponse([b"x"]), id="no file"),
        pytest.param(lambda: HttpResponse(b"x"), id="no file response"),
    ],
)
def test_what_is_no_file_goes_through_python(response: Any) -> None:
    assert plan(BOTH, response()) is None


def test_nothing_is_planned_for_a_server_without_extensions(path: Path) -> None:
    assert plan(GET, FileResponse(path.open("rb"))) is None


def ask_for(part: bytes, scope: dict[str, Any]) -> dict[str, Any]:
    return {**scope, "headers": [(b"range", b"bytes=" + part)]}


def test_part_of_a_file_is_sent_by_its_descriptor(path: Path) -> None:
    file = path.open("rb")
    message = plan(ask_for(b"3-5", BOTH), FileResponse(file))

    assert message.pop("file").file is file
    assert message == {"type": ZEROCOPYSEND, "offset": 3, "count": 3}


def test_part_counts_from_where_the_response_begins(path: Path) -> None:
    file = path.open("rb")
    file.seek(4)
    message = plan(ask_for(b"1-2", BOTH), FileResponse(file))

    assert (message["offset"], message["count"]) == (5, 2)


@pytest.mark.parametrize("scope", [GET, {**GET, "extensions": {PATHSEND: {}}}])
def test_part_goes_through_python_if_the_server_sends_no_parts(
    path: Path, scope: Any
) -> None:
    response = FileResponse(path.open("rb"))
    response.block_size = 2

    assert plan_file(ask_for(b"3-7", scope), response) is None
    assert list(response) == [b"34", b"56", b"7"]
    file = response._resource_closers[0].__self__  # type: ignore[attr-defined]
    close(response)
    assert file.closed


def test_part_ends_with_a_file_that_became_shorter(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    plan_file(ask_for(b"3-7", GET), response)
    path.write_bytes(b"01234")

    assert b"".join(response) == b"34"
    close(response)


def test_refused_range_has_no_content(path: Path) -> None:
    response = FileResponse(path.open("rb"))

    assert plan_file(ask_for(b"10-", BOTH), response) is None
    assert (response.status_code, list(response)) == (416, [])
    close(response)


def test_file_in_memory_has_no_parts() -> None:
    response = FileResponse(io.BytesIO(b"0123456789"))

    assert plan(ask_for(b"0-1", BOTH), response) is None
    assert response.status_code == 200


SIZE = 100
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


def respond(**fields: str) -> HttpResponse:
    response = HttpResponse()
    for name, value in fields.items():
        response[name.replace("_", "-")] = value
    return response


def scope_of(*fields: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    headers = [(b"host", b"a"), *fields]
    extensions: dict[str, Any] = {"http.response.pathsend": {}}
    return {"method": method, "headers": headers, "extensions": extensions}


RANGE = (b"range", b"bytes=10-19")


def test_part_is_announced() -> None:
    response = respond(ETag='"a"', Content_Type="video/webm")

    assert answer_range(scope_of(RANGE), response, SIZE) == range(10, 20)
    assert response.status_code == 206
    assert dict(response.items()) == {
        "Accept-Ranges": "bytes",
        "Content-Length": "10",
        "Content-Range": "bytes 10-19/100",
        "Content-Type": "video/webm",
        "ETag": '"a"',
    }


def test_refusal_names_the_size_and_is_not_described_as_the_file() -> None:
    response = respond(
        ETag='"a"', Cache_Control="max-age=60", Content_Disposition="inline"
    )
    wanted = (b"range", b"bytes=100-")

    assert answer_range(scope_of(wanted), response, SIZE) == range(0)
    assert response.status_code == 416
    assert dict(response.items()) == {
        "Accept-Ranges": "bytes",
        "Content-Length": "0",
        "Content-Range": "bytes */100",
    }


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([], id="no range"),
        pytest.param([RANGE, RANGE], id="two fields"),
        pytest.param([(b"range", b"bytes=0-1,3-4")], id="several parts"),
    ],
)
def test_whole_file_is_sent(fields: list[tuple[bytes, bytes]]) -> None:
    response = respond()

    assert answer_range(scope_of(*fields), response, SIZE) is None
    assert (response.status_code, response["Accept-Ranges"]) == (200, "bytes")


def test_whole_file_looks_as_djangos_without_extensions() -> None:
    response = respond()
    before = dict(response.items())
    scope = {**scope_of(), "extensions": {}}

    assert answer_range(scope, response, SIZE) is None
    assert dict(response.items()) == before


def test_head_ignores_ranges() -> None:
    response = respond()

    assert answer_range(scope_of(RANGE, method="HEAD"), response, SIZE) is None
    assert (response.status_code, response["Accept-Ranges"]) == (200, "bytes")


@pytest.mark.parametrize(
    ("condition", "is_part"),
    [
        (b'"a"', True),
        (b'"b"', False),
        (b'W/"a"', False),
        (DATE.encode(), True),
        (b"Wed, 21 Oct 2015 07:28:01 GMT", False),
        (b"Wed, 21 Oct 2015 07:27:59 GMT", False),
        (b"nonsense", False),
        (b"", False),
    ],
)
def test_part_is_sent_if_the_client_has_the_same_file(
    condition: bytes, is_part: bool
) -> None:
    response = respond(ETag='"a"', Last_Modified=DATE)
    scope = scope_of(RANGE, (b"if-range", condition))

    assert (answer_range(scope, response, SIZE) is not None) is is_part


@pytest.mark.parametrize("condition", [b'"a"', DATE.encode(), b"nonsense"])
def test_without_a_validator_no_condition_holds(condition: bytes) -> None:
    scope = scope_of(RANGE, (b"if-range", condition))

    assert answer_range(scope, respond(), SIZE) is None


def test_weak_tag_is_no_validator_for_a_part() -> None:
    scope = scope_of(RANGE, (b"if-range", b'W/"a"'))

    assert answer_range(scope, respond(ETag='W/"a"'), SIZE) is None


def test_two_conditions_are_none_that_holds() -> None:
    condition = (b"if-range", b'"a"')
    scope = scope_of(RANGE, condition, condition)

    assert answer_range(scope, respond(ETag='"a"'), SIZE) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"Content_Encoding": "gzip"},
        {"Content_Range": "bytes 0-99/200"},
        {"Accept_Ranges": "none"},
    ],
)
def test_view_that_answers_ranges_itself_is_left_alone(fields: dict[str, str]) -> None:
    response = respond(**fields)
    before = dict(response.items())

    assert answer_range(scope_of(RANGE), response, SIZE) is None
    assert (response.status_code, dict(response.items())) == (200, before)


@pytest.mark.parametrize("status", [201, 206, 404, 416])
def test_other_statuses_are_left_alone(status: int) -> None:
    response = HttpResponse(status=status)

    assert answer_range(scope_of(RANGE), response, SIZE) is None
    assert "Accept-Ranges" not in response


def test_other_methods_have_no_ranges() -> None:
    response = respond()

    assert answer_range(scope_of(RANGE, method="POST"), response, SIZE) is None
    assert "Accept-Ranges" not in response
