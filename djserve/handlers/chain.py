"""``settings.MIDDLEWARE`` to a chain for each lane, of the same middleware.

Middleware that is nothing but hooks becomes part of a ``LayerRun`` or ``SyncRun``,
which call the hooks. Any other is called as Django calls it: if both lanes call it
in the same mode, one instance serves both, and what it calls in turn depends on the
lane of the request (``Fork``). Only if the modes differ is a second one made.
"""

# Two chains of one set of middleware
#
# A synchronous view under a chain that was built for asynchronous calls, as Django's
# handler for ASGI builds it, costs a thread hop at each change of mode; an asynchronous
# view under a synchronous chain blocks a thread while it waits. So there is a chain for
# each kind, and a request takes the one that suits its view. What makes this hard is
# that middleware has state: a counter of requests, a table of clients, a cache. Two
# instances would each count half of the requests, and nothing would fail.
#
# So a middleware is made once if it can be at all. One of hooks alone is called by both
# runs. Any other has been given its ``get_response`` when it was made, and cannot be
# given another later: it gets a ``Fork``, which looks at a context variable for the
# lane of the request. That needs the same mode in both chains, since a coroutine
# function is called in another way; the modes differ only if the middleware between
# them and the view can do one mode alone. Then there have to be two instances, which do
# no harm if the class keeps nothing (``state``); if one may keep something, all views
# take the asynchronous chain, as under Django's handler, and ``djserve.I001`` says so.
#
# The second chain is made from the stages of the first and not from the settings, so
# that MiddlewareNotUsed, and what an import does, happens once. ``_wrap`` has to choose
# modes by the same rule as ``wrap`` did, or a fork would lead to a handler of the wrong
# kind.

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.utils.module_loading import import_string

from djserve.handlers.layers import (
    IN_SYNC_LANE,
    Layer,
    LayerRun,
    SyncRun,
    ViewRun,
    is_coalescible,
)
from djserve.handlers.state import keeps_nothing
from djserve.values import Values

# Django's name: what is logged here stands in for Django's own lines.
logger = logging.getLogger("django.request")


class Fork:
    """What a middleware that serves both lanes calls: the handler of either."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler
        self.sync_handler: Callable[..., Any] | None = None

    def __call__(self, request: HttpRequest) -> Any:
        if self.sync_handler is not None and IN_SYNC_LANE.get():
            return self.sync_handler(request)
        return self.handler(request)


class AsyncFork(Fork):
    """The same for middleware that is asynchronous in both lanes."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        super().__init__(handler)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        return await super().__call__(request)


class Stage(Values):
    """One middleware as it was made for the asynchronous lane.

    ``fork`` is None for one that is nothing but hooks, and for one that the synchronous
    lane needs in another mode.
    """

    path: str
    factory: Any
    instance: Any
    is_plain: bool
    fork: Fork | None

    @property
    def serves_both_lanes(self) -> bool:
        """Whether this one instance does."""
        return self.is_plain or self.fork is not None


class AsyncChain:
    """The chain under construction, from the view outward.

    ``handler`` is what has been built; while it is asynchronous, ``_layers`` collects
    the middleware around ``_inner`` that will run with it.
    """

    def __init__(self, base: BaseHandler) -> None:
        self.view_middleware: list[Callable[..., Any]] = []
        self.template_response_middleware: list[Callable[..., Any]] = []
        self.exception_middleware: list[Callable[..., Any]] = []
        self._base = base
        self._inner: Any = base._get_response_async  # type: ignore[attr-defined]
        self._layers = [Layer()]
        self.handler: Any = LayerRun(self._layers, self._inner)
        self._is_async = True
        self._is_async_in_sync_lane = False
        self.stages: list[Stage] = []
        """What has been made, from the innermost outward."""

    def wrap(self, path: str) -> None:
        """Put the middleware with this dotted path around the chain."""
        middleware: Any = import_string(path)
        is_async = choose_mode(path, middleware, self._is_async)
        other = choose_mode(path, middleware, self._is_async_in_sync_lane)
        handler = self._base.adapt_method_mode(
            is_async,
            self.handler,
            self._is_async,
            debug=settings.DEBUG,
            name=f"middleware {path}",
        )
        is_plain = is_coalescible(middleware)
        fork = None
        if not is_plain and other == is_async:
            fork = AsyncFork(handler) if is_async else Fork(handler)
        instance = make(path, middleware, fork or handler)
        if instance is None:
            return
        self.stages.append(Stage(path, middleware, instance, is_plain, fork))
        self._is_async_in_sync_lane = other
        self._collect_hooks(instance)
        self._enclose(instance, handler, is_async, is_plain)

    def finish(self) -> Callable[..., Any]:
        """Return the chain as an asynchronous callable."""
        self.view_middleware = _coalesce_views(self.view_middleware)
        chain: Callable[..., Any] = self._base.adapt_method_mode(
            True, self.handler, self._is_async
        )
        return chain

    def _enclose(
        self, instance: Any, handler: Any, is_async: bool, coalescible: bool
    ) -> None:
        if coalescible and is_async and handler is self.handler:
            self._layers = [Layer(instance), *self._layers]
            self.handler = LayerRun(self._layers, self._inner)
        elif is_async:
            self._inner = instance
            self._layers = [Layer()]
            self.handler = LayerRun(self._layers, self._inner)
        else:
            self.handler = convert_exception_to_response(instance)
        self._is_async = is_async

    def _collect_hooks(self, instance: Any) -> None:
        adapt = self._base.adapt_method_mode
        if hasattr(instance, "process_view"):
            self.view_middleware.insert(0, instance.process_view)
        if hasattr(instance, "process_template_response"):
            self.template_response_middleware.append(
                adapt(True, instance.process_template_response)
            )
        if hasattr(instance, "process_exception"):
            # Django calls these synchronously in either lane.
            self.exception_middleware.append(adapt(False, instance.process_exception))


class SyncChain:
    """The chain of the synchronous lane, from the stages of the other."""

    def __init__(
        self, base: BaseHandler, stages: Iterable[Stage], twins: Mapping[str, type]
    ) -> None:
        self._twins = twins
        self.view_middleware: list[Callable[..., Any]] = []
        self.template_response_middleware: list[Callable[..., Any]] = []
        self.exception_middleware: list[Callable[..., Any]] = []
        self._base = base
        self._inner: Any = base._get_response  # type: ignore[attr-defined]
        self._layers = [Layer()]
        self._is_async = False
        for stage in stages:
            self._wrap(stage)

    def finish(self) -> Callable[..., Any]:
        """Return the chain as a synchronous callable."""
        return self._adapt(False, self._handler(), self._is_async)

    def _handler(self) -> Callable[..., Any]:
        run = LayerRun if self._is_async else SyncRun
        return run(self._layers, self._inner)

    def _wrap(self, stage: Stage) -> None:
        instance = stage.instance
        if stage.is_plain:
            self._layers = [Layer(instance), *self._layers]
        else:
            is_async = choose_mode(stage.path, stage.factory, self._is_async)
            handler = self._adapt(is_async, self._handler(), self._is_async)
            if stage.fork is not None:
                stage.fork.sync_handler = handler
            else:
                factory = self._twins.get(stage.path, stage.factory)
                instance = make(stage.path, factory, handler)
                if instance is None:
                    return
            self._inner, self._layers = instance, [Layer()]
            self._is_async = is_async
        self._collect_hooks(instance)

    def _adapt(
        self, is_async: bool, handler: Any, handler_is_async: bool | None = None
    ) -> Callable[..., Any]:
        adapted: Callable[..., Any] = self._base.adapt_method_mode(
            is_async, handler, handler_is_async
        )
        return adapted

    def _collect_hooks(self, instance: Any) -> None:
        if hasattr(instance, "process_view"):
            self.view_middleware.insert(0, self._adapt(False, instance.process_view))
        if hasattr(instance, "process_template_response"):
            self.template_response_middleware.append(
                self._adapt(False, instance.process_template_response)
            )
        if hasattr(instance, "process_exception"):
            self.exception_middleware.append(
                self._adapt(False, instance.process_exception)
            )


def choose_mode(path: str, middleware: Any, inner_is_async: bool) -> bool:
    """Return whether Django would make a middleware asynchronous, around another."""
    can_sync = getattr(middleware, "sync_capable", True)
    can_async: bool = getattr(middleware, "async_capable", False)
    if not can_sync and not can_async:
        raise RuntimeError(
            f"Middleware {path} must have at least one of "
            "sync_capable/async_capable set to True."
        )
    return can_async and (inner_is_async or not can_sync)


def make(path: str, middleware: Any, handler: Callable[..., Any]) -> Any:
    """Return the middleware around a handler; None for one that is not used."""
    try:
        instance = middleware(handler)
    except MiddlewareNotUsed as reason:
        _log_unused(path, reason)
        return None
    if instance is None:
        raise ImproperlyConfigured(f"Middleware factory {path} returned None.")
    return instance


def find_divided() -> list[tuple[str, bool]]:
    """Return the paths of middleware that each lane needs an instance of; makes none.

    With each, whether it keeps nothing, so that there may be two. Raises what importing
    a middleware raises.
    """
    divided: list[tuple[str, bool]] = []
    is_async, other = True, False
    for path in reversed(settings.MIDDLEWARE):
        middleware = import_string(path)
        is_async = choose_mode(path, middleware, is_async)
        other = choose_mode(path, middleware, other)
        if is_async != other and not is_coalescible(middleware):
            divided.insert(0, (path, keeps_nothing(middleware)))
    return divided


def may_be_made_twice() -> bool:
    """Whether a second instance of each middleware would do no harm.

    That is so for those that keep nothing but what they call; a counter that is
    registered or a table of clients would exist twice.
    """
    return all(keeps_nothing(import_string(path)) for path in settings.MIDDLEWARE)


def _coalesce_views(hooks: list[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """Join neighbouring synchronous ``process_view`` hooks, the outermost first."""
    joined: list[Callable[..., Any]] = []
    run: list[Callable[..., Any]] = []
    for hook in hooks:
        if not iscoroutinefunction(hook):
            run.append(hook)
            continue
        if run:
            joined.append(ViewRun(run))
            run = []
        joined.append(hook)
    if run:
        joined.append(ViewRun(run))
    return joined


def _log_unused(path: str, reason: MiddlewareNotUsed) -> None:
    if not settings.DEBUG:
        return
    if str(reason):
        logger.debug("MiddlewareNotUsed(%r): %s", path, reason)
    else:
        logger.debug("MiddlewareNotUsed: %r", path)
