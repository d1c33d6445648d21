"""What agents replace in Django's classes and of them, and that it takes effect."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import wraps
from inspect import unwrap
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.core.handlers import asgi, base
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from djserve.handlers import ASGIHandler
from djserve.handlers.patches import (
    OriginalBase,
    OriginalHandler,
    current_patches,
    find_base,
    find_handler,
    is_asgiref_patched,
    is_original_method,
    refresh_patches,
)
from djserve.handlers.runtime import make_pool
from tests.handlers import agents
from tests.handlers.agents import Proxy
from tests.handlers.carried import CallCounter, carry
from tests.handlers.conversation import Conversation

REQUESTS = 96
AT_A_TIME = 16

EXISTS_ON_BASE = {
    "get_response",
    "get_response_async",
    "load_middleware",
    "resolve_request",
    "make_view_atomic",
    "check_response",
    "process_exception_by_middleware",
}


def visit(request: HttpRequest) -> None:
    """Leave the user with the agent, which must not have seen another."""
    user = request.GET["user"]
    seen = agents.scope().setdefault("users", [])
    seen.append(user)
    request.seen = seen  # type: ignore[attr-defined]


def sync_view(request: HttpRequest) -> HttpResponse:
    visit(request)
    return HttpResponse(",".join(agents.scope()["users"]))


async def async_view(request: HttpRequest) -> HttpResponse:
    visit(request)
    await asyncio.sleep(0)
    return HttpResponse(",".join(agents.scope()["users"]))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    visit(request)
    return StreamingHttpResponse(user for user in agents.scope()["users"])


def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    visit(request)

    async def parts() -> Any:
        await asyncio.sleep(0)
        for user in agents.scope()["users"]:
            yield user

    return StreamingHttpResponse(parts())


def raises(request: HttpRequest) -> HttpResponse:
    raise ValueError


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from a thread")


HEARD: list[list[str]] = []
"""The calls of what listens for the client's disconnect."""


def waits(request: HttpRequest) -> HttpResponse:
    """Answer once there were so many calls."""
    deadline = time.monotonic() + 60
    while len(HEARD[0]) < int(request.GET["user"]):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return HttpResponse()


urlpatterns = [
    path("waits/", waits),
    path("plain/", plain),
    path("sync/", sync_view),
    path("async/", async_view),
    path("stream/", stream),
    path("async-stream/", async_stream),
    path("raises/", raises),
]
PATHS = ("/sync/", "/async/", "/stream/", "/async-stream/")


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    agents.SHARED.clear()
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        yield
    refresh_patches()


async def ask(application: Any, path: str, user: str = "x") -> str:
    """Make a request as djserve's own server does; return the content."""
    conversation = Conversation(path, query_string=f"user={user}".encode())
    scope = {**conversation.scope, "raw_path": path.encode()}
    async with asyncio.timeout(60):
        await carry(
            application, scope, [b""], conversation.gone, conversation.sent.append
        )
    return conversation.content.decode()


async def ask_many(application: Any) -> list[tuple[str, str]]:
    """Make many requests at a time; return each one's user, and what it heard."""
    limit = asyncio.Semaphore(AT_A_TIME)

    async def one(number: int) -> tuple[str, str]:
        async with limit:
            user = f"user{number}"
            return user, await ask(application, PATHS[number % len(PATHS)], user)

    return await asyncio.gather(*map(one, range(REQUESTS)))


def test_nothing_is_taken_for_a_patch_that_is_none() -> None:
    assert refresh_patches().found == ()
    assert current_patches().describe() == ""


@pytest.mark.parametrize("is_late", [False, True])
def test_scope_of_an_agent_is_no_other_requests(
    is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = ASGIHandler() if is_late else None
    call = agents.isolates(asgi.ASGIHandler.__call__)
    monkeypatch.setattr(asgi.ASGIHandler, "__call__", call)

    answers = asyncio.run(ask_many(application or ASGIHandler()))

    assert [user for user, _ in answers] == [heard for _, heard in answers]
    assert agents.SHARED == {}


# Django's own handler says so where it has to run.
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("form", ["plainly", "as_decorator", "as_proxy"])
@pytest.mark.parametrize("path", ["/sync/", "/async/", "/stream/"])
@pytest.mark.parametrize(
    "name",
    [
        "__call__",
        "handle",
        "read_body",
        "create_request",
        "run_get_response",
        "get_response_async",
        "resolve_request",
        "make_view_atomic",
        "check_response",
        "send_response",
    ],
)
def test_patched_method_runs_once_for_each_request(
    name: str, path: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = agents.Counted()
    owner = base.BaseHandler if name in EXISTS_ON_BASE else asgi.ASGIHandler
    application = ASGIHandler()
    asyncio.run(ask(application, path))

    patch = getattr(counted, form)(vars(owner)[name])
    monkeypatch.setattr(owner, name, patch)
    with CallCounter() as direct:
        asyncio.run(ask(application, path))
        asyncio.run(ask(application, path))

    assert counted.calls == 2
    natural = {
        "make_view_atomic",
        "check_response",
        "create_request",
        "resolve_request",
    }
    assert name in natural or direct.count == 0


@pytest.mark.parametrize("name", ["get_response_async", "make_view_atomic"])
def test_method_of_the_base_patched_in_the_subclass_runs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = agents.Counted()
    patch = counted.plainly(vars(base.BaseHandler)[name])
    monkeypatch.setattr(asgi.ASGIHandler, name, patch, raising=False)

    asyncio.run(ask(ASGIHandler(), "/sync/"))

    assert counted.calls == 1
    assert not hasattr(base.BaseHandler, "missing")


def test_exceptions_reach_the_patched_method(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = agents.Counted()
    name = "process_exception_by_middleware"
    monkeypatch.setattr(
        base.BaseHandler, name, counted.plainly(vars(base.BaseHandler)[name])
    )

    asyncio.run(ask(ASGIHandler(), "/raises/"))

    assert counted.calls == 1


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "name",
    [
        "__call__",
        "handle",
        "read_body",
        "create_request",
        "run_get_response",
        "get_response_async",
        "_get_response_async",
        "resolve_request",
        "check_response",
        "send_response",
    ],
)
def test_code_put_into_a_method_runs_once_for_each_request(
    name: str, path: str
) -> None:
    application = ASGIHandler()
    asyncio.run(ask(application, path))

    # A server with metrics in this process leaves a wrapper around one of them.
    function = unwrap(getattr(asgi.ASGIHandler, name))
    with agents.code_put_into(function) as calls:
        answers = [asyncio.run(ask(application, path)) for _ in range(2)]
    asyncio.run(ask(application, path))

    assert [answer[-1] for answer in answers] == ["x", "x"]
    assert len(calls) == 2


@pytest.mark.parametrize("path", ["/waits/", "/async/"])
def test_code_put_into_what_listens_runs_once_for_each_request_that_lasts(
    path: str,
) -> None:
    """For one that is answered at once there is no task: on 3.14 nothing waits then."""
    application = ASGIHandler()
    function = unwrap(asgi.ASGIHandler.listen_for_disconnect)

    with agents.code_put_into(function) as calls:
        HEARD[:] = [calls]
        for count in ("1", "2"):
            asyncio.run(ask(application, path, count))

    assert len(calls) == 2


def test_pair_that_one_package_has_replaced_leaves_both_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {}
    for name in ("get_response", "get_response_async"):
        counts[name] = agents.Counted()
        patch = counts[name].plainly(vars(base.BaseHandler)[name])
        monkeypatch.setattr(base.BaseHandler, name, patch)
    application = ASGIHandler()

    asyncio.run(ask(application, "/sync/"))
    asyncio.run(ask(application, "/async/"))

    assert [counted.calls for counted in counts.values()] == [1, 1]


def test_half_of_a_pair_leaves_the_lane_that_django_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = agents.Counted()
    patch = counted.plainly(vars(base.BaseHandler)["get_response"])
    monkeypatch.setattr(base.BaseHandler, "get_response", patch)

    assert asyncio.run(ask(ASGIHandler(), "/sync/")) == "x"
    # Django's ASGI handler does not call it.
    assert counted.calls == 0


@pytest.mark.parametrize("name", ["handle", "get_response_async", "send_response"])
def test_method_of_one_instance_runs(name: str) -> None:
    counted = agents.Counted()
    application = ASGIHandler()
    setattr(application, name, counted.plainly(getattr(application, name)))

    asyncio.run(ask(application, "/sync/"))

    assert counted.calls == 1


def test_method_of_our_own_class_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = agents.Counted()
    application = ASGIHandler()
    monkeypatch.setattr(ASGIHandler, "__call__", counted.plainly(ASGIHandler.__call__))

    asyncio.run(ask(application, "/sync/"))

    assert counted.calls == 1


def test_agent_is_not_asked_for_a_lifespan(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = agents.Counted()
    replaced = counted.plainly(asgi.ASGIHandler.__call__)
    monkeypatch.setattr(asgi.ASGIHandler, "__call__", replaced)
    application = ASGIHandler()
    asyncio.run(ask(application, "/sync/"))
    assert counted.calls == 1

    with pytest.raises(ValueError, match="not lifespan"):
        conversation = Conversation("/", type="lifespan")
        asyncio.run(
            application(conversation.scope, conversation.receive, conversation.send)
        )

    assert counted.calls == 1


def test_patch_of_the_loading_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    import_string = vars(base)["import_string"]

    def imports(name: str) -> Any:
        middleware = import_string(name)

        @wraps(middleware)
        def make(get_response: Any) -> Any:
            made.append(name)
            return middleware(get_response)

        make.async_capable = True  # type: ignore[attr-defined]
        return make

    monkeypatch.setattr(base, "import_string", imports)
    name = "django.middleware.common.CommonMiddleware"
    with override_settings(MIDDLEWARE=[name]):
        asyncio.run(ask(ASGIHandler(), "/async/"))

    assert set(made) == {name}


def test_end_of_a_patch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    application = ASGIHandler()
    with monkeypatch.context() as patched:
        call = agents.isolates(asgi.ASGIHandler.__call__)
        patched.setattr(asgi.ASGIHandler, "__call__", call)
        assert current_patches().enters
        assert not application.is_untouched()

    assert not current_patches().enters
    assert application.is_untouched()


def test_subclass_that_an_agent_makes_an_application_of_is_seen() -> None:
    application = ASGIHandler()
    assert application.is_untouched()

    application.__class__ = type("Traced", (ASGIHandler,), {})

    assert not application.is_untouched()


def test_description_names_methods_and_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = agents.isolates(asgi.ASGIHandler.__call__)
    monkeypatch.setattr(asgi.ASGIHandler, "__call__", call)

    assert current_patches().describe() == (
        "tests has replaced ASGIHandler.__call__: djserve's handler runs inside"
    )

    handle = agents.Counted().as_decorator(asgi.ASGIHandler.handle)
    monkeypatch.setattr(asgi.ASGIHandler, "handle", handle)

    assert current_patches().describe() == (
        "tests has replaced ASGIHandler.__call__, ASGIHandler.handle: "
        "Django's handler runs, with all of it"
    )


def test_description_does_not_take_code_in_a_method_for_the_work_of_django() -> None:
    with agents.code_put_into(asgi.ASGIHandler.handle):
        assert current_patches().describe() == (
            "An agent has replaced ASGIHandler.handle: "
            "Django's handler runs, with all of it"
        )


def test_description_names_no_module_that_an_extension_has_made_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrapper:
        __module__ = "_wrappers"

        def __init__(self, wrapped: Any) -> None:
            self.__wrapped__ = wrapped

        def __call__(self, *args: Any) -> Any:
            return self.__wrapped__(*args)

    call = agents.isolates(asgi.ASGIHandler.__call__)
    monkeypatch.setattr(asgi.ASGIHandler, "__call__", Wrapper(call))

    assert current_patches().packages == ["tests"]


def test_method_is_compared_with_the_source_of_its_class() -> None:
    assert is_original_method(ASGIHandler, "get_response_async")
    assert not is_original_method(agents.Counted, "missing")


def test_methods_of_asgiref_are_known() -> None:
    assert not is_asgiref_patched()


@pytest.mark.parametrize("name", ["__call__", "thread_handler"])
def test_patched_method_is_called_around_the_view(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = agents.Counted()
    patch: Any = counted.as_decorator(vars(SyncToAsync)[name])
    monkeypatch.setattr(SyncToAsync, name, patch)
    pool = make_pool(2)
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        client = Conversation("/plain/")
        asyncio.run(client.request(ASGIHandler(pool)))

    assert client.content == b"from a thread"
    assert counted.calls == 1
    # Bound by the pool all the same.
    assert pool.stats().threads == 1
    pool.close(60)


@pytest.mark.parametrize("name", ["__call__", "thread_handler"])
def test_code_put_into_a_method_is_called_around_the_view(name: str) -> None:
    pool = make_pool(2)
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        application, client = ASGIHandler(pool), Conversation("/plain/")
        with agents.code_put_into(vars(SyncToAsync)[name]) as calls:
            asyncio.run(client.request(application))

    assert client.content == b"from a thread"
    assert len(calls) == 1
    pool.close(60)


IN_ITS_PLACE = {
    "subclass": """
class Other(asgi.ASGIHandler):
    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)
asgi.ASGIHandler = Other
""",
    "subclass of the base": """
class Other(base.BaseHandler):
    def load_middleware(self, is_async=False):
        super().load_middleware(is_async)
base.BaseHandler = Other
""",
    "function": """
original = asgi.ASGIHandler
asgi.ASGIHandler = lambda: original()
""",
}


def test_classes_are_those_of_the_source() -> None:
    assert OriginalBase is base.BaseHandler
    assert OriginalHandler is asgi.ASGIHandler
    assert issubclass(ASGIHandler, asgi.ASGIHandler)


def test_base_is_found_below_subclasses_and_proxies() -> None:
    class Other(base.BaseHandler):
        def load_middleware(self, is_async: bool = False) -> None:
            raise NotImplementedError

    assert find_base(Other) is base.BaseHandler
    assert find_base(Proxy(base.BaseHandler, None)) is base.BaseHandler
    # What derives from it is no handler for ASGI.
    assert find_handler(find_base(Other)) is asgi.ASGIHandler


@pytest.mark.e2e
@pytest.mark.parametrize("form", IN_ITS_PLACE)
def test_handlers_can_be_imported_after_an_agent(form: str) -> None:
    program = f"""
from django.core.handlers import asgi, base
django_handler = asgi.ASGIHandler
{IN_ITS_PLACE[form]}
from djserve.handlers import ASGIHandler
from djserve.handlers.patches import refresh_patches
assert ASGIHandler.__mro__[1] is django_handler, ASGIHandler.__mro__
assert refresh_patches().found == (), refresh_patches().found
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
