"""Middleware coalesced on the loop: where hooks run, and Django's order of things."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.core.handlers import exception
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.deprecation import MiddlewareMixin

from djserve.handlers import layers
from djserve.handlers.inline_middleware import NEVER, InlineRules
from djserve.handlers.layers import Layer, LayerRun, ViewRun, is_coalescible

INLINE = InlineRules(
    "for tests",
    request=lambda request: True,
    view=lambda request, view: True,
    response=lambda request, response: True,
)

Calls = list[tuple[str, str]]

urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def _own_urls() -> Any:
    # Where Django looks for the project's error pages.
    with override_settings(ROOT_URLCONF=sys.modules[__name__]):
        yield


class Hooks(MiddlewareMixin):
    """Notes its calls and where they run; ``does`` says what a hook does."""

    def __init__(self, name: str, calls: Calls, **does: Any) -> None:
        super().__init__(lambda request: HttpResponse())
        self.name = name
        self.calls = calls
        self.does = does

    def note(self, hook: str) -> Any:
        here = "loop" if threading.current_thread() is LOOP_THREAD else "thread"
        self.calls.append((f"{self.name}.{hook}", here))
        action = self.does.get(hook)
        if isinstance(action, Exception):
            raise action
        return action

    def process_request(self, request: HttpRequest) -> Any:
        return self.note("request")

    def process_view(self, request: HttpRequest, *args: Any) -> Any:
        return self.note("view")

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        return self.note("response") or response


LOOP_THREAD = threading.current_thread()


async def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from the view")


async def failing_view(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def make_layer(hooks: Hooks, *, inline: bool) -> Layer:
    layer = Layer(hooks)
    rules = INLINE if inline else NEVER
    layer.request_rule, layer.response_rule = rules.request, rules.response
    layer.request_hook, layer.response_hook = (
        Hooks.process_request,
        Hooks.process_response,
    )
    return layer


def call(pattern: str, does: dict[str, Any], inner: Any = view) -> tuple[Any, Calls]:
    """Run layers "i" (inline) and "t" (thread), named a, b, c from the outermost."""
    calls: Calls = []
    made = [
        make_layer(
            Hooks(name, calls, **does.get(name, {})), inline=pattern[index] == "i"
        )
        for index, name in enumerate("abcdef"[: len(pattern)])
    ]
    run = LayerRun([*made, Layer()], inner)
    return asyncio.run(run(RequestFactory().get("/"))), calls


def test_inline_hooks_stay_on_the_loop() -> None:
    response, calls = call("iii", {})

    assert response.content == b"from the view"
    assert {where for _, where in calls} == {"loop"}


def test_hooks_run_down_and_up_in_order() -> None:
    _, calls = call("iti", {})

    names = [name for name, _ in calls]
    down = ["a.request", "b.request", "c.request"]
    assert names == [*down, "c.response", "b.response", "a.response"]


def test_rest_of_the_run_follows_into_the_thread() -> None:
    _, calls = call("iti", {})

    assert dict(calls) == {
        "a.request": "loop",
        "b.request": "thread",
        "c.request": "thread",
        "c.response": "loop",
        "b.response": "thread",
        "a.response": "thread",
    }


@pytest.mark.parametrize("pattern", ["iii", "ttt", "tii", "iit", "iti"])
def test_each_direction_costs_one_hop_at_most(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: list[Any] = []
    original = vars(layers)["run_in_thread"]

    async def count(fn: Any, *args: Any) -> Any:
        hops.append(fn)
        return await original(fn, *args)

    monkeypatch.setattr(layers, "run_in_thread", count)
    call(pattern, {})

    assert len(hops) == (0 if "t" not in pattern else 2)


@pytest.mark.parametrize("pattern", ["iii", "ttt", "iti"])
def test_response_of_a_request_hook_turns_back_there(pattern: str) -> None:
    response, calls = call(pattern, {"b": {"request": HttpResponse("early")}})

    assert response.content == b"early"
    assert [name for name, _ in calls] == [
        "a.request",
        "b.request",
        "b.response",
        "a.response",
    ]


@pytest.mark.parametrize("pattern", ["iii", "ttt", "iti"])
def test_error_of_a_request_hook_skips_its_own_response_hook(pattern: str) -> None:
    response, calls = call(pattern, {"b": {"request": PermissionDenied()}})

    assert response.status_code == 403
    assert [name for name, _ in calls] == ["a.request", "b.request", "a.response"]


@pytest.mark.parametrize("pattern", ["iii", "ttt", "tti"])
def test_error_of_a_response_hook_is_converted_by_its_layer(pattern: str) -> None:
    response, calls = call(pattern, {"b": {"response": PermissionDenied()}})

    assert response.status_code == 403
    assert [name for name, _ in calls][-2:] == ["b.response", "a.response"]


@pytest.mark.parametrize("pattern", ["ii", "tt"])
def test_error_of_the_view_passes_each_response_hook(pattern: str) -> None:
    response, calls = call(pattern, {}, failing_view)

    assert response.status_code == 403
    assert [name for name, _ in calls][-2:] == ["b.response", "a.response"]


def test_error_that_cannot_be_converted_goes_to_the_next_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted: list[str] = []

    def convert(request: Any, error: Exception) -> HttpResponse:
        converted.append(type(error).__name__)
        if isinstance(error, PermissionDenied):
            raise KeyError("the error page failed")
        return HttpResponse(status=500)

    monkeypatch.setattr(exception, "response_for_exception", convert)
    response, calls = call("ii", {}, failing_view)

    assert response.status_code == 500
    assert converted == ["PermissionDenied", "KeyError"]
    # The layer that converts it sees no response, as in Django.
    assert [name for name, _ in calls][-1] == "a.response"


def test_error_that_no_layer_can_convert_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def convert(request: Any, error: Exception) -> HttpResponse:
        raise error

    monkeypatch.setattr(exception, "response_for_exception", convert)

    with pytest.raises(PermissionDenied):
        call("i", {}, failing_view)


def run_views(pattern: str, does: dict[str, Any]) -> tuple[Any, Calls]:
    calls: Calls = []
    made = [Hooks(name, calls, **does.get(name, {})) for name in "abc"[: len(pattern)]]
    run = ViewRun([hooks.process_view for hooks in made])
    run._hooks = tuple(
        (hook, INLINE.view if pattern[index] == "i" else None)
        for index, (hook, _) in enumerate(run._hooks)
    )
    return asyncio.run(run(RequestFactory().get("/"), view, (), {})), calls


def test_view_hooks_go_to_the_thread_from_the_first_that_must() -> None:
    response, calls = run_views("iti", {})

    assert response is None
    assert [where for _, where in calls] == ["loop", "thread", "thread"]


@pytest.mark.parametrize("pattern", ["iii", "ttt"])
def test_first_response_of_a_view_hook_is_taken(pattern: str) -> None:
    early = HttpResponse()
    response, calls = run_views(pattern, {"b": {"view": early}})

    assert response is early
    assert len(calls) == 2


class OwnCall(MiddlewareMixin):
    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)


class AsyncHook(MiddlewareMixin):
    async def process_request(self, request: HttpRequest) -> None:
        pass


class SyncOnly(MiddlewareMixin):
    async_capable = False


def function(get_response: Any) -> Any:
    return get_response


@pytest.mark.parametrize(
    ("middleware", "coalescible"),
    [
        (MiddlewareMixin, True),
        (Hooks, True),
        (OwnCall, False),
        (AsyncHook, False),
        (SyncOnly, False),
        (function, False),
    ],
)
def test_only_middleware_that_is_nothing_but_hooks_is_coalesced(
    middleware: Any, coalescible: bool
) -> None:
    assert is_coalescible(middleware) is coalescible
