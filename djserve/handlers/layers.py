"""Middleware on the event loop: a run of layers that have only hooks becomes one layer.

Django takes each synchronous hook of each middleware to a thread and back. Here the
hooks of neighbouring middleware go together: those that are safe on the loop run there
(``inline``), and from the first that is not, the rest of the run goes to the thread in
one hop; the same on the way back. Order, short circuits and the conversion of
exceptions layer by layer are Django's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from djserve.handlers.hops import run_in_thread
from djserve.handlers.inline import InlineRules, rules_for

GetResponse: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponseBase | None]]
Hook: TypeAlias = Callable[..., Any]


class Layer:
    """The hooks of one middleware; without one, a layer only converts exceptions."""

    __slots__ = ("process_request", "process_response", "rules")

    def __init__(self, middleware: Any = None) -> None:
        self.process_request: Hook | None = getattr(middleware, "process_request", None)
        self.process_response: Hook | None = getattr(
            middleware, "process_response", None
        )
        self.rules: InlineRules = rules_for(middleware)


class Passage:
    """Where a request stands between the layers of a run.

    ``index`` is the layer that comes next. ``response`` or ``error`` is what turned it
    back; the layers above it see one or the other.
    """

    __slots__ = ("error", "index", "response", "returns")

    def __init__(self) -> None:
        self.index = 0
        self.returns = False
        self.response: HttpResponseBase | None = None
        self.error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None

    def turn_back(
        self, response: HttpResponseBase | None, error: Exception | None = None
    ) -> None:
        """Go up from the layer before ``index`` with this."""
        self.index -= 1
        self.returns = True
        self.response = response
        self.error = error


def is_coalescible(middleware: Any) -> bool:
    """Whether a middleware class is nothing but its hooks, run by MiddlewareMixin."""
    return (
        isinstance(middleware, type)
        and issubclass(middleware, MiddlewareMixin)
        and middleware.__call__ is MiddlewareMixin.__call__
        and middleware.__acall__ is MiddlewareMixin.__acall__
        and middleware.sync_capable
        and middleware.async_capable
        and not iscoroutinefunction(getattr(middleware, "process_request", None))
        and not iscoroutinefunction(getattr(middleware, "process_response", None))
    )


class LayerRun:
    """Neighbouring layers, from the outermost to the innermost, as one handler.

    A call returns what the outermost layer returns, or raises what escapes it.
    """

    def __init__(self, layers: Sequence[Layer], get_response: GetResponse) -> None:
        self._layers = tuple(layers)
        self._get_response = get_response
        # Middleware asks so whether it is to work asynchronously.
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase | None:
        passage = Passage()
        if not self._descend_inline(request, passage):
            await run_in_thread(self._descend, request, passage)
        if not passage.returns:
            await self._turn_at_the_bottom(request, passage)
        if not self._ascend_inline(request, passage):
            await run_in_thread(self._ascend, request, passage)
        if passage.error is not None:
            raise passage.error
        return passage.response

    async def _turn_at_the_bottom(self, request: HttpRequest, passage: Passage) -> None:
        try:
            response = await self._get_response(request)
        except Exception as error:
            passage.turn_back(None, error)
        else:
            passage.turn_back(response)

    def _descend_inline(self, request: HttpRequest, passage: Passage) -> bool:
        """Go down on the loop while that is safe; False where a thread must go on."""
        for layer in self._layers:
            if layer.process_request is not None:
                rule = layer.rules.request
                if rule is None or not rule(request):
                    return False
            if _enter(layer, request, passage):
                break
        return True

    def _descend(self, request: HttpRequest, passage: Passage) -> None:
        """Go on down, in a thread."""
        for layer in self._layers[passage.index :]:
            if _enter(layer, request, passage):
                return

    def _ascend_inline(self, request: HttpRequest, passage: Passage) -> bool:
        """Go up on the loop while that is safe; False where a thread must go on."""
        # An error is converted in the thread, by the layer that it has reached.
        while passage.error is None:
            if passage.index < 0:
                return True
            layer = self._layers[passage.index]
            hook = layer.process_response
            if hook is not None:
                rule = layer.rules.response
                response = passage.response
                if response is None or rule is None or not rule(request, response):
                    return False
                _leave(hook, request, passage)
                if passage.failed:
                    return False
            passage.index -= 1
        return False

    def _ascend(self, request: HttpRequest, passage: Passage) -> None:
        """Go on up, in a thread."""
        while passage.index >= 0:
            hook = self._layers[passage.index].process_response
            if passage.error is None and hook is not None:
                _leave(hook, request, passage)
            if passage.error is not None:
                _convert(request, passage)
            passage.index -= 1


class ViewRun:
    """Neighbouring ``process_view`` hooks as one."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(
            (hook, rules_for(getattr(hook, "__self__", None)).view) for hook in hooks
        )

    async def __call__(
        self, request: HttpRequest, view: Hook, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Return the first response that a hook gives, or None."""
        response: HttpResponseBase | None
        for index, (hook, rule) in enumerate(self._hooks):
            if rule is None or not rule(request, view):
                return await run_in_thread(
                    self._call_from, index, request, view, args, kwargs
                )
            response = hook(request, view, args, kwargs)
            if response:
                return response
        return None

    def _call_from(
        self, index: int, request: HttpRequest, view: Hook, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        response: HttpResponseBase | None
        for hook, _ in self._hooks[index:]:
            response = hook(request, view, args, kwargs)
            if response:
                return response
        return None


def _enter(layer: Layer, request: HttpRequest, passage: Passage) -> bool:
    """Go through a layer downward; True where it turns the request back."""
    passage.index += 1
    if layer.process_request is None:
        return False
    try:
        response = layer.process_request(request)
    except Exception as error:
        passage.turn_back(None, error)
        return True
    if response:
        passage.turn_back(response)
        return True
    return False


def _leave(hook: Hook, request: HttpRequest, passage: Passage) -> None:
    try:
        passage.response = hook(request, passage.response)
    except Exception as error:
        passage.error = error


def _convert(request: HttpRequest, passage: Passage) -> None:
    """Make the error a response; what that raises is the next layer's to convert."""
    error, passage.error = passage.error, None
    assert error is not None
    try:
        try:
            # Raised again for sys.exc_info(), which the debug page is made from.
            raise error
        except Exception as caught:
            passage.response = response_for_exception(request, caught)
    except Exception as another:
        passage.error = another
