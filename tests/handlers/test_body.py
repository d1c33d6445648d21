"""Content of requests: in memory, on disk, over the limit, cut short, unread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import IO, Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from djserve.handlers import ASGIHandler, body
from djserve.handlers.body import (
    ContentLimits,
    ContentRefused,
    ContentTooLarge,
    ContentTooSlow,
    DiskSpaceTaken,
    SpooledFile,
    declared_length,
    may_be_read,
    note_full_disk,
    read_body,
    set_content_length,
    take_whole,
)
from djserve.handlers.routing import resolve_route
from djserve.instrumentation.spooled import count_refusals, spooled_size
from tests.handlers.conversation import Conversation
from tests.support.logs import own_messages
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


def test_space_is_taken_until_the_file_is_closed() -> None:
    with SpooledFile() as file:
        assert file.claim(100, 250)
        assert file.claim(150, 250)
        assert not file.claim(1, 250)
        assert spooled_size() == 250

    file.close()
    assert spooled_size() == 0


def test_what_is_written_can_be_read() -> None:
    with SpooledFile() as file:
        file.writelines([b"ab", b"cd"])
        file.seek(0)
        assert file.read() == b"abcd"


def test_full_disk_is_logged_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(body, "_next_log", 0.0)
    with caplog.at_level(logging.WARNING, "djserve"):
        note_full_disk()
        note_full_disk()

    assert len(own_messages(caplog)) == 1
    assert "UPLOAD_DISK_LIMIT" in own_messages(caplog)[0]


CSRF = "django.middleware.csrf.CsrfViewMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.read())))


class OnlyGet(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("got")


class Dispatching(OnlyGet):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return HttpResponse(str(len(request.body)))


class Both(OnlyGet):
    post = OnlyGet.get


def reads(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        return HttpResponse(str(len(request.body)))

    return middleware


def own_page(request: HttpRequest, exception: Exception) -> HttpResponse:
    return HttpResponse(str(len(request.body)), status=404)


urlpatterns = [
    path("view/", view),
    path("get/", OnlyGet.as_view()),
    path("exempt/", csrf_exempt(OnlyGet.as_view())),
    path("login/", login_required(OnlyGet.as_view())),
    path("dispatch/", Dispatching.as_view()),
    path("both/", Both.as_view()),
    path("fewer/", Both.as_view(http_method_names=["get"])),
]


class translated:
    urlpatterns = i18n_patterns(path("view/", view))


class with_page:
    urlpatterns = urlpatterns
    handler404 = staticmethod(own_page)


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    with override_settings(
        ROOT_URLCONF=sys.modules[__name__], MIDDLEWARE=[COMMON], ALLOWED_HOSTS=["*"]
    ):
        yield


def ask(path: str, method: str = "POST", **fields: str) -> bool:
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    return may_be_read(scope, resolve_route(scope))


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/view/", "POST", True),
        ("/missing/", "POST", False),
        ("/view", "POST", False),
        ("/get/", "POST", False),
        ("/get/", "PUT", False),
        ("/get/", "GET", True),
        ("/get/", "FOO", False),
        ("/fewer/", "POST", False),
        ("/both/", "POST", True),
        ("/dispatch/", "POST", True),
        ("/login/", "POST", True),
    ],
)
def test_content_is_kept_where_it_may_be_read(
    path: str, method: str, expected: bool
) -> None:
    assert ask(path, method) is expected


def test_middleware_of_the_project_may_read_all() -> None:
    with override_settings(MIDDLEWARE=[COMMON, f"{__name__}.reads"]):
        assert ask("/missing/")
        assert ask("/get/")


def test_page_of_the_project_for_404_may_read_it() -> None:
    with override_settings(ROOT_URLCONF=with_page):
        assert ask("/missing/")


def test_path_may_exist_in_another_language() -> None:
    with override_settings(ROOT_URLCONF=translated, USE_I18N=True):
        assert ask("/de/view/")


def test_urls_that_cannot_be_imported_are_djangos_concern() -> None:
    with override_settings(ROOT_URLCONF="no.such.urls"):
        assert ask("/missing/")


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/get/", {}, False),
        ("/get/", {"cookie": "a=b; csrftoken=c"}, True),
        ("/exempt/", {"cookie": "csrftoken=c"}, False),
        ("/missing/", {"cookie": "csrftoken=c"}, False),
    ],
)
def test_token_may_be_in_the_form(
    path: str, fields: dict[str, str], expected: bool
) -> None:
    with override_settings(MIDDLEWARE=[CSRF]):
        assert ask(path, **fields) is expected


@pytest.mark.parametrize(
    "changes", [{"CSRF_USE_SESSIONS": True}, {"CSRF_FAILURE_VIEW": f"{__name__}.view"}]
)
def test_other_tokens_may_be_anywhere(changes: dict[str, Any]) -> None:
    with override_settings(MIDDLEWARE=[CSRF], **changes):
        assert ask("/get/")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is written to temporary files, by writes."""
    sizes: list[int] = []
    claim: Callable[..., bool] = SpooledFile.claim

    def counting(file: SpooledFile, size: int, limit: int | None) -> bool:
        sizes.append(size)
        return claim(file, size, limit)

    monkeypatch.setattr(SpooledFile, "claim", counting)
    return sizes


@pytest.mark.parametrize(
    ("path", "status", "is_kept"),
    [("/view/", 200, True), ("/missing/", 404, False), ("/get/", 405, False)],
)
def test_answer_is_djangos_with_and_without_a_file(
    path: str, status: int, is_kept: bool, files: list[int]
) -> None:
    body = [b"x" * 1_000_000] * 4
    ours = Conversation(path, method="POST", body=[*body])
    ours.run(ASGIHandler())
    before = count_refusals(503)
    with override_settings(DJSERVE={"UPLOAD_DISK_LIMIT": 3_000_000}):
        refused = Conversation(path, method="POST", body=[*body])
        refused.run(ASGIHandler())

    assert ours.status == status
    assert bool(files) is is_kept
    assert refused.status == (503 if is_kept else status)
    assert count_refusals(503) - before == is_kept
