"""The fast handler beside Django's: the same project, the same requests, compared."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.handlers import asgi
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path

from djserve.handlers import ASGIHandler, get_asgi_application
from djserve.handlers.runtime import make_pool
from tests.handlers import soak
from tests.handlers.conversation import Conversation

HERE = Path(__file__).parent

SAME = (
    "atomic_requests",
    "broken_error_page_in_middleware",
    "changed_urlconf",
    "connections_with_age_0",
    "context",
    "disconnect_before_the_body",
    "language_and_timezone",
    "large_content",
    "methods_and_forms",
    "middleware_around_async_views",
    "middleware_around_sync_views",
    "other_scopes",
    "own_error_pages",
    "propagated_exceptions",
    "responses_in_debug",
    "responses_with_cookies",
    "script_prefix",
    "signals",
    "threads",
)
"""Scenarios of compare.py that must give the same with either handler."""

OURS = ("djserve", "direct")
"""The handler called as any application, and by djserve's own server."""

COUNT = "calls without a task"

DIFFERENT = {
    COUNT,
    "connections_with_age_60",
    "context_after_the_request",
    "disconnects",
    "responses",
}
"""Scenarios that have a test of their own, which says what differs."""

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results() -> Results:
    """What compare.py prints for each handler."""
    commands = {
        handler: [sys.executable, str(HERE / "compare.py"), handler]
        for handler in ("django", *OURS)
    }
    return {
        handler: json.loads(subprocess.check_output(command, timeout=600))
        for handler, command in commands.items()
    }


@pytest.mark.parametrize("handler", OURS)
def test_each_scenario_is_compared(handler: str, results: Results) -> None:
    assert set(results[handler]) == {*SAME, *DIFFERENT}


@pytest.mark.parametrize("handler", OURS)
@pytest.mark.parametrize("scenario", SAME)
def test_scenario_ends_as_with_the_handler_of_django(
    scenario: str, handler: str, results: Results
) -> None:
    assert results[handler][scenario] == results["django"][scenario]


def test_own_server_makes_most_calls_of_sync_views_without_a_task(
    results: Results,
) -> None:
    assert results["djserve"][COUNT] == 0
    # Of some 600 requests half have asynchronous views.
    assert results["direct"][COUNT] > 250


@pytest.mark.parametrize("handler", OURS)
def test_responses_are_the_same_but_for_streams_that_fail(
    handler: str, results: Results
) -> None:
    ours = copy.deepcopy(results[handler]["responses"])
    stock = {**results["django"]["responses"]}
    failing, failing_stock = ours.pop("/failing-stream/"), stock.pop("/failing-stream/")

    assert ours == stock
    assert failing["error"] == failing_stock["error"] == "ValueError: the stream failed"
    # Django draws all of the stream before it sends any of it.
    assert failing["response"][2] == "first"


@pytest.mark.parametrize("handler", OURS)
def test_connections_stay_open_for_their_age(handler: str, results: Results) -> None:
    counts = results[handler]["connections_with_age_60"]

    assert results["django"]["connections_with_age_60"]["opened"] == 5
    assert counts == {"opened": 1, "closed": 0}


def test_context_variables_reach_the_caller(
    results: Results,
) -> None:
    ours = results["djserve"]["context_after_the_request"]

    assert set(ours.values()) == {"set by the view"}
    if django.VERSION >= (6, 1):
        assert ours == results["django"]["context_after_the_request"]


@pytest.mark.parametrize("handler", OURS)
def test_disconnects_end_the_same_way(handler: str, results: Results) -> None:
    ours, stock = {**results[handler]["disconnects"]}, results["django"]["disconnects"]
    sync_stream = ours.pop("sync stream")

    assert ours == stock
    assert ours["async view"]["events"] == ["view begins", "view cancelled", "finished"]
    assert ours["sync view"]["events"] == ["view begins", "view ends", "finished"]
    assert sync_stream["events"] == ["stream closed", "finished"]


def test_disconnects_log_nothing(results: Results) -> None:
    for result in results["djserve"]["disconnects"].values():
        assert (result["error"], result["log"]) == (None, [])


@pytest.mark.parametrize("bounds", [{}, soak.BOUNDS])
@pytest.mark.parametrize("scenario", soak.SCENARIOS)
def test_requests_that_wait_for_each_other_come_to_an_end(
    scenario: str, bounds: dict[str, Any]
) -> None:
    pool = make_pool(soak.THREADS, **bounds)
    with override_settings(ROOT_URLCONF=soak, MIDDLEWARE=[], ALLOWED_HOSTS=["*"]):
        application = ASGIHandler(pool)
        result = asyncio.run(soak.soak(application, soak.SCENARIOS[scenario], rounds=3))

    assert result["pings"] == 3 * soak.PINGS
    assert pool.stats().running == pool.stats().parked == 0
    pool.close(60)


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from a thread")


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from the loop")


urlpatterns = [path("sync/", view), path("async/", async_view)]


@pytest.fixture(autouse=True)
def _small_project() -> Any:
    with override_settings(ROOT_URLCONF=sys.modules[__name__], MIDDLEWARE=[]):
        yield


def test_application_is_also_an_asgi_handler_of_django() -> None:
    assert isinstance(get_asgi_application(), asgi.ASGIHandler)


def test_content_over_the_limit_is_refused_before_django() -> None:
    with override_settings(DJSERVE={"BODY_SIZE_LIMIT": 10}, ROOT_URLCONF="no.such"):
        client = Conversation("/sync/", body=[b"12345", b"678901"])
        client.run(ASGIHandler())

    assert client.status == 413
    assert (b"connection", b"close") in client.headers


def test_declared_content_over_the_limit_is_not_read() -> None:
    with override_settings(DJSERVE={"BODY_SIZE_LIMIT": 10}):
        client = Conversation("/sync/", headers=[(b"content-length", b"11")])
        client.run(ASGIHandler())

    assert client.status == 413
    assert client.received == 0


def test_full_queue_refuses_sync_views_and_no_others() -> None:
    with override_settings(DJSERVE={"THREAD_QUEUE_LIMIT": 0}):
        application = ASGIHandler(make_pool(1))
        refused, served = Conversation("/sync/"), Conversation("/async/")
        refused.run(application)
        served.run(application)

    assert (refused.status, served.status) == (503, 200)
    assert (b"retry-after", b"1") in refused.headers


def test_async_view_takes_no_thread() -> None:
    pool = make_pool(1)
    client = Conversation("/async/")
    client.run(ASGIHandler(pool))

    assert client.content == b"from the loop"
    assert pool.stats().threads == 0


def test_sync_views_share_one_thread_one_after_the_other() -> None:
    pool = make_pool(4)
    application = ASGIHandler(pool)
    for _ in range(5):
        Conversation("/sync/").run(application)

    assert pool.stats().threads == 1
    pool.close(60)


def test_server_that_raises_on_send_after_a_disconnect_is_no_error() -> None:
    client = Conversation("/sync/")
    client.send_error = OSError("gone")

    client.run(ASGIHandler())


@pytest.mark.parametrize("prefix", ["/app", "/app/"])
@pytest.mark.parametrize("lane", ["sync", "async"])
@pytest.mark.parametrize(
    ("before", "status"), [("/app", 200), ("", 200), ("/app/app", 404), ("/appx", 404)]
)
def test_forced_script_name_ends_at_a_slash(
    prefix: str, lane: str, before: str, status: int
) -> None:
    client = Conversation(f"{before}/{lane}/")
    with override_settings(FORCE_SCRIPT_NAME=prefix):
        client.run(ASGIHandler())

    assert client.status == status


def test_forced_script_name_is_not_taken_off_within_a_name() -> None:
    seen: list[tuple[str, str]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append((request.path_info, request.META["PATH_INFO"]))
        return HttpResponse()

    class Urls:
        urlpatterns = [path("application/", view), path("lication/", view)]

    client = Conversation("/application/")
    with override_settings(FORCE_SCRIPT_NAME="/app", ROOT_URLCONF=Urls):
        client.run(ASGIHandler())

    assert client.status == 200
    assert seen == [("/application/", "/application/")]


@pytest.mark.parametrize("prefix", ["/app", "/app/"])
@pytest.mark.parametrize("path_info", ["/where/", "/app/where/", "/application/"])
def test_forced_script_name_that_the_proxy_takes_off_is_seen_as_under_wsgi(
    prefix: str, path_info: str
) -> None:
    seen: list[tuple[str, str, str]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append((request.path, request.path_info, request.get_full_path()))
        return HttpResponse()

    class Urls:
        urlpatterns = [path("where/", view), path("application/", view)]

    with override_settings(FORCE_SCRIPT_NAME=prefix, ROOT_URLCONF=Urls):
        Conversation(path_info).run(ASGIHandler())
        environ = RequestFactory()._base_environ(PATH_INFO=path_info)  # type: ignore[attr-defined]
        if path_info.startswith("/app/"):
            # Left on by the proxy: WSGI's servers are told where it ends.
            environ["PATH_INFO"] = path_info.removeprefix("/app")
        view(WSGIRequest(environ))

    assert seen[0] == seen[1]


def test_subclass_that_answers_asynchronously_is_asked() -> None:
    class Teapot(ASGIHandler):
        async def get_response_async(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("short and stout", status=418)

    client = Conversation("/sync/")
    client.run(Teapot())

    assert (client.status, client.content) == (418, b"short and stout")


def test_subclass_that_answers_synchronously_is_asked() -> None:
    class Teapot(ASGIHandler):
        def get_response(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("short and stout", status=418)

    client = Conversation("/sync/")
    client.run(Teapot())

    assert client.status == 418
