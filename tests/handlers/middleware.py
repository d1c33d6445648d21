"""Middleware of each kind that counts how often it is made, and called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin

MADE: Counter[str] = Counter()
CALLED: list[str] = []
VARIABLE: ContextVar[str] = ContextVar("variable", default="")


class hooks(MiddlewareMixin):
    def __init__(self, get_response: Callable[..., Any]) -> None:
        MADE["hooks"] += 1
        super().__init__(get_response)

    def process_request(self, request: HttpRequest) -> None:
        CALLED.append("hooks down")

    def process_view(self, *args: Any) -> None:
        CALLED.append("hooks view")

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        CALLED.append("hooks up")
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        CALLED.append("hooks error")


class tokens(MiddlewareMixin):
    """Sets a variable for the time of the request."""

    token: Token[str]

    def process_request(self, request: HttpRequest) -> None:
        self.token = VARIABLE.set(request.path)

    def process_view(self, *args: Any) -> None:
        CALLED.append(VARIABLE.get())

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        VARIABLE.reset(self.token)
        CALLED.append(f"reset to {VARIABLE.get()!r}")
        return response


class sync_only:
    def __init__(self, get_response: Callable[..., Any]) -> None:
        MADE["sync_only"] += 1
        self.get_response = get_response
        assert not iscoroutinefunction(get_response)

    def __call__(self, request: HttpRequest) -> Any:
        CALLED.append("sync_only down")
        response = self.get_response(request)
        CALLED.append(f"sync_only up {response.status_code}")
        return response


def sync_function(get_response: Callable[..., Any]) -> Callable[..., Any]:
    MADE["sync_function"] += 1

    def middleware(request: HttpRequest) -> Any:
        CALLED.append("sync_function")
        return get_response(request)

    return middleware


class async_only:
    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        MADE["async_only"] += 1
        self.get_response = get_response
        assert iscoroutinefunction(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        CALLED.append("async_only")
        return await self.get_response(request)


@sync_and_async_middleware
def both(get_response: Callable[..., Any]) -> Callable[..., Any]:
    MADE["both"] += 1
    if iscoroutinefunction(get_response):

        async def in_async(request: HttpRequest) -> Any:
            CALLED.append("both in async")
            return await get_response(request)

        return in_async

    def in_sync(request: HttpRequest) -> Any:
        CALLED.append("both in sync")
        return get_response(request)

    return in_sync


@sync_and_async_middleware
def plain_both(get_response: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(get_response):

        async def in_async(request: HttpRequest) -> Any:
            CALLED.append("plain in async")
            return await get_response(request)

        return in_async

    def in_sync(request: HttpRequest) -> Any:
        CALLED.append("plain in sync")
        return get_response(request)

    return in_sync


@sync_and_async_middleware
def only_async(get_response: Callable[..., Any]) -> Callable[..., Any]:
    if not iscoroutinefunction(get_response):
        raise ValueError

    async def in_async(request: HttpRequest) -> Any:
        CALLED.append("only in async")
        return await get_response(request)

    return in_async


@sync_and_async_middleware
def only_once(get_response: Callable[..., Any]) -> Callable[..., Any]:
    if MADE["only_once"]:
        raise ValueError("registered already")
    MADE["only_once"] += 1
    return both(get_response)


class counts:
    """Works in both modes; has a count only once it has been called."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        self.count = getattr(self, "count", 0) + 1
        CALLED.append(f"call {self.count}")
        return self.get_response(request)

    async def __acall__(self, request: HttpRequest) -> Any:
        self.count = getattr(self, "count", 0) + 1
        CALLED.append(f"call {self.count}")
        return await self.get_response(request)


class counts_in_a_hook(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None:
        self.count = getattr(self, "count", 0) + 1
        CALLED.append(f"call {self.count}")


class counts_in_sync:
    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        self.count = getattr(self, "count", 0) + 1
        CALLED.append(f"call {self.count}")
        return self.get_response(request)


@sync_and_async_middleware
def counts_in_a_closure(get_response: Callable[..., Any]) -> Callable[..., Any]:
    count = 0

    def up() -> None:
        nonlocal count
        count += 1
        CALLED.append(f"call {count}")

    if iscoroutinefunction(get_response):

        async def in_async(request: HttpRequest) -> Any:
            up()
            return await get_response(request)

        return in_async

    def in_sync(request: HttpRequest) -> Any:
        up()
        return get_response(request)

    return in_sync


def unused(get_response: Callable[..., Any]) -> Any:
    MADE["unused"] += 1
    raise MiddlewareNotUsed
