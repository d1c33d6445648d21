"""``settings.MIDDLEWARE`` to a chain for each lane.

The synchronous lane's chain is Django's own, as under WSGI. The asynchronous one is
built here: middleware that is nothing but hooks becomes part of a ``LayerRun``; any
other is called as Django calls it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.utils.module_loading import import_string

from djserve.handlers.layers import Layer, LayerRun, ViewRun, is_coalescible

# Django's name: what is logged here stands in for Django's own lines.
logger = logging.getLogger("django.request")


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

    def wrap(self, path: str) -> None:
        """Put the middleware with this dotted path around the chain."""
        middleware: Any = import_string(path)
        is_async = self._choose_mode(path, middleware)
        handler = self._base.adapt_method_mode(
            is_async,
            self.handler,
            self._is_async,
            debug=settings.DEBUG,
            name=f"middleware {path}",
        )
        try:
            instance = middleware(handler)
        except MiddlewareNotUsed as reason:
            _log_unused(path, reason)
            return
        if instance is None:
            raise ImproperlyConfigured(f"Middleware factory {path} returned None.")
        self._collect_hooks(instance)
        self._enclose(instance, handler, is_async, is_coalescible(middleware))

    def finish(self) -> Callable[..., Any]:
        """Return the chain as an asynchronous callable."""
        self.view_middleware = _coalesce_views(self.view_middleware)
        chain: Callable[..., Any] = self._base.adapt_method_mode(
            True, self.handler, self._is_async
        )
        return chain

    def _choose_mode(self, path: str, middleware: Any) -> bool:
        can_sync = getattr(middleware, "sync_capable", True)
        can_async: bool = getattr(middleware, "async_capable", False)
        if not can_sync and not can_async:
            raise RuntimeError(
                f"Middleware {path} must have at least one of "
                "sync_capable/async_capable set to True."
            )
        return can_async and (self._is_async or not can_sync)

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
