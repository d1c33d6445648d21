"""Whose content is kept: in doubt everyone's; the answer must not change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from djserve.handlers import ASGIHandler
from djserve.handlers.disk import SpooledFile
from djserve.handlers.routing import resolve_route
from djserve.handlers.uptake import may_be_read
from djserve.instrumentation.spooled import count_refusals
from tests.handlers.conversation import Conversation

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
