"""Middleware on the event loop: a run of layers that have only hooks becomes one layer.

Django takes each synchronous hook of each middleware to a thread and back. Here the
hooks of neighbouring middleware go together: those that are safe on the loop run there
(``inline``), and from the first that is not, the rest of the run goes to the thread in
one hop; the same on the way back. Order, short circuits and the conversion of
exceptions layer by layer are Django's.
"""

# What must stay as Django has it
#
# For Django each middleware is a function around the next one. What a project can
# observe of that is kept, and what costs a hop per layer is not:
#
# - Order. ``process_request`` runs from the outermost layer to the innermost, and
#   ``process_response`` back. A layer that returns a response turns the request back
#   there, and those below never see it.
# - Exceptions. Django converts an exception to a response at each layer, so the layer
#   above sees a response and never an exception (``_convert``). A hook that raises on
#   the way back is converted before the next one is asked.
# - Context variables. What one hook sets, the next one sees, in whatever thread it
#   runs: each hop takes the context along and brings it back.
#
# ``Passage`` is the state of that walk: the next layer, the direction, and what turned
# it back. With it, the walk can stop at any layer and be continued in a thread, or on
# the loop, by the same rules. That is why the four loops below (down and up, each on
# the loop and in a thread) are written out and kept alike: one step more for each hook
# would cost more than many hooks do.
#
# A hook runs on the loop only if ``inline_middleware`` lists its exact class and its
# rule allows this call. The first that does not sends the rest of the run to the
# thread. After the view, the walk begins on the loop again.
#
# The middleware's own ``__call__`` is not called at all. So a class that overrides it
# is no part of a run (``is_coalescible``), and one in which an agent has replaced it
# since is found by a comparison before each run (``_is_touched``): all of the run is
# then called as Django would.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeAlias, TypeVar, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.core.handlers import exception
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from djserve.handlers.inline_middleware import ALWAYS, rules_for
from djserve.handlers.patches import is_original_method
from djserve.handlers.threads.asgiref_compat import rehome, restore_context
from djserve.handlers.threads.hops import run_in_thread

GetResponse: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponseBase | None]]
Hook: TypeAlias = Callable[..., Any]
T = TypeVar("T")

CONTEXT = "_djserve_context"

IN_SYNC_LANE: ContextVar[bool] = ContextVar("djserve.handlers.lane", default=False)
"""Whether the request of this context is on its way through the synchronous chain."""

_CALL, _ACALL = MiddlewareMixin.__call__, MiddlewareMixin.__acall__
# Some agents replace the code inside of a function.
_CALL_CODE, _ACALL_CODE = (
    getattr(method, "__code__", None) for method in (_CALL, _ACALL)
)


class Layer:
    """The hooks of one middleware; without one, a layer only converts exceptions.

    The hooks are looked up at each call, as Django does: agents replace them late.
    ``request_hook`` and ``response_hook`` are what the rules were made for: of the
    class, and None if no rule lets the hook run on the loop.
    """

    __slots__ = (
        "has_request",
        "has_response",
        "kind",
        "middleware",
        "request_hook",
        "request_rule",
        "response_hook",
        "response_rule",
    )

    def __init__(self, middleware: Any = None) -> None:
        self.middleware = middleware
        self.kind: Any = type(middleware)
        self.has_request = hasattr(middleware, "process_request")
        self.has_response = hasattr(middleware, "process_response")
        rules = rules_for(middleware)
        self.request_rule, self.response_rule = rules.request, rules.response
        self.request_hook: Any = None
        self.response_hook: Any = None
        if rules.request is not None:
            self.request_hook = self.kind.process_request
        if rules.response is not None:
            self.response_hook = self.kind.process_response


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
        self,
        place: int,
        response: HttpResponseBase | None,
        error: Exception | None = None,
    ) -> None:
        """Go up from the layer at ``place`` with this."""
        self.index = place
        self.returns = True
        self.response = response
        self.error = error


def is_coalescible(middleware: Any) -> bool:
    """Whether a middleware class is nothing but its hooks, run by MiddlewareMixin."""
    return (
        isinstance(middleware, type)
        and issubclass(middleware, MiddlewareMixin)
        and middleware.__call__ is _CALL
        and middleware.__acall__ is _ACALL
        and is_original_method(MiddlewareMixin, "__call__")
        and is_original_method(MiddlewareMixin, "__acall__")
        and middleware.sync_capable
        and middleware.async_capable
        and not iscoroutinefunction(getattr(middleware, "process_request", None))
        and not iscoroutinefunction(getattr(middleware, "process_response", None))
    )


class _Run:
    """Neighbouring layers, from the outermost to the innermost."""

    def __init__(self, layers: Sequence[Layer], get_response: Any) -> None:
        self._layers = tuple(layers)
        self._bottom = len(layers) - 1
        self._get_response = get_response
        self._kinds = tuple(
            layer.kind for layer in layers if layer.middleware is not None
        )
        # With their places: those that have such a hook, and no others.
        self._requested = tuple(
            (place, layer) for place, layer in enumerate(layers) if layer.has_request
        )
        self._responding = tuple(
            (place, layer) for place, layer in enumerate(layers) if layer.has_response
        )[::-1]

    def _is_touched(self) -> bool:
        """Whether anybody has replaced what calls the hooks."""
        if not self._kinds:
            return False
        # Django calls the second by the first, for either kind of view.
        if _CALL.__code__ is not _CALL_CODE or _ACALL.__code__ is not _ACALL_CODE:
            return True
        for kind in self._kinds:
            if kind.__call__ is not _CALL or kind.__acall__ is not _ACALL:
                return True
        return False

    def _outermost(self) -> Any:
        """Return the outermost middleware, to be called as Django does."""
        return exception.convert_exception_to_response(self._layers[0].middleware)

    def _descend(self, request: HttpRequest, passage: Passage) -> None:
        """Go on down, in a thread."""
        # Written out, as are the other three: no call more than the hooks.
        for place, layer in self._requested:
            if place < passage.index:
                continue
            try:
                response = layer.middleware.process_request(request)
            except Exception as error:
                passage.turn_back(place, None, error)
                return
            if response:
                passage.turn_back(place, response)
                return

    def _ascend(self, request: HttpRequest, passage: Passage) -> None:
        """Go on up, in a thread."""
        if passage.error is None:
            self._ascend_plainly(request, passage)
        while passage.index >= 0:
            layer = self._layers[passage.index]
            if passage.error is None and layer.has_response:
                try:
                    passage.response = layer.middleware.process_response(
                        request, passage.response
                    )
                except Exception as error:
                    passage.error = error
            if passage.error is not None:
                _convert(request, passage)
            passage.index -= 1

    def _ascend_plainly(self, request: HttpRequest, passage: Passage) -> None:
        """Go on up to the outermost layer, or to the first whose hook raises."""
        response = passage.response
        for place, layer in self._responding:
            if place > passage.index:
                continue
            try:
                response = layer.middleware.process_response(request, response)
            except Exception as error:
                passage.index, passage.error = place, error
                return
            passage.response = response
        passage.index = -1


class LayerRun(_Run):
    """A run as one asynchronous handler.

    A call returns what the outermost layer returns, or raises what escapes it.
    """

    def __init__(self, layers: Sequence[Layer], get_response: GetResponse) -> None:
        super().__init__(layers, get_response)
        # Middleware asks so whether it is to work asynchronously.
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase | None:
        if self._is_touched():
            # The outermost middleware calls the next by a run of the others.
            return cast("HttpResponseBase | None", await self._outermost()(request))
        passage = Passage()
        if not self._descend_inline(request, passage):
            await run_in_thread(keep_context, self._descend, request, passage)
        if not passage.returns:
            await self._turn_at_the_bottom(request, passage)
        if not self._ascend_inline(request, passage):
            await run_in_thread(keep_context, self._ascend, request, passage)
        if passage.error is not None:
            raise passage.error
        return passage.response

    async def _turn_at_the_bottom(self, request: HttpRequest, passage: Passage) -> None:
        try:
            response = await self._get_response(request)
        except Exception as error:
            passage.turn_back(self._bottom, None, error)
        else:
            passage.turn_back(self._bottom, response)

    def _descend_inline(self, request: HttpRequest, passage: Passage) -> bool:
        """Go down on the loop while that is safe; False if a thread must go on."""
        for place, layer in self._requested:
            rule = layer.request_rule
            if (
                rule is None
                or layer.kind.process_request is not layer.request_hook
                or not (rule is ALWAYS or rule(request))
            ):
                passage.index = place
                return False
            try:
                response = layer.middleware.process_request(request)
            except Exception as error:
                passage.turn_back(place, None, error)
                return True
            if response:
                passage.turn_back(place, response)
                return True
        return True

    def _ascend_inline(self, request: HttpRequest, passage: Passage) -> bool:
        """Go up on the loop while that is safe; False if a thread must go on."""
        # An error is converted in the thread, by the layer that it has reached.
        if passage.error is not None:
            return False
        response = passage.response
        for place, layer in self._responding:
            if place > passage.index:
                continue
            rule = layer.response_rule
            if (
                rule is None
                or response is None
                or layer.kind.process_response is not layer.response_hook
                or not (rule is ALWAYS or rule(request, response))
            ):
                passage.index = place
                return False
            try:
                response = layer.middleware.process_response(request, response)
            except Exception as error:
                passage.index, passage.error = place, error
                return False
            passage.response = response
        return True


class SyncRun(_Run):
    """A run as one synchronous handler: the same hooks, all in the request's thread."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | None:
        if self._is_touched():
            # Made for the asynchronous lane, which goes on from here.
            return self._leave_lane(request)
        passage = Passage()
        self._descend(request, passage)
        if not passage.returns:
            try:
                passage.turn_back(self._bottom, self._get_response(request))
            except Exception as error:
                passage.turn_back(self._bottom, None, error)
        self._ascend(request, passage)
        if passage.error is not None:
            raise passage.error
        return passage.response

    def _leave_lane(self, request: HttpRequest) -> HttpResponseBase | None:
        call = self._outermost()
        if iscoroutinefunction(call):
            call = async_to_sync(call)
        token = IN_SYNC_LANE.set(False)
        response: HttpResponseBase | None
        try:
            response = call(request)
        finally:
            IN_SYNC_LANE.reset(token)
        return response


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
                    keep_context, self._call_from, request, index, view, args, kwargs
                )
            response = hook(request, view, args, kwargs)
            if response:
                return response
        return None

    def _call_from(
        self, request: HttpRequest, index: int, view: Hook, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        response: HttpResponseBase | None
        for hook, _ in self._hooks[index:]:
            response = hook(request, view, args, kwargs)
            if response:
                return response
        return None


def keep_context(step: Callable[..., T], request: HttpRequest, *args: Any) -> T:
    """Run a step of the hooks in the one context of the request, in its thread.

    A variable that one hook has set can be reset by another with the token: a token
    fits the very context that it was made in. What the steps set is seen outside.
    """
    kept: Context | None = request.__dict__.get(CONTEXT)
    current = copy_context()
    if kept is None:
        kept = request.__dict__[CONTEXT] = current
    else:
        kept.run(_follow, current, kept)
    try:
        return kept.run(step, request, *args)
    finally:
        restore_context(kept)


def _follow(current: Context, kept: Context) -> None:
    """Have in the kept context what the others have set since."""
    restore_context(current)
    rehome(kept)


def _convert(request: HttpRequest, passage: Passage) -> None:
    """Make the error a response; what that raises is the next layer's to convert."""
    error, passage.error = passage.error, None
    assert error is not None
    try:
        try:
            # Raised again for sys.exc_info(), which the debug page is made from.
            raise error
        except Exception as caught:
            passage.response = exception.response_for_exception(request, caught)
    except Exception as another:
        passage.error = another
