"""Django's ASGI handler, with the thread hops taken out.

Does what ``django.core.handlers.asgi.ASGIHandler`` does, under any ASGI server. Which
lane a request takes is decided by its view: see ``sync_lane`` and ``async_lane``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, cast

import django
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponseBase
from django.urls import ResolverMatch

from djserve.asgi.http import HTTPExchange
from djserve.conf.schema import ServerConfig
from djserve.errors import ClientDisconnected
from djserve.handlers.async_lane import serve_async
from djserve.handlers.body import (
    ContentLimits,
    ContentRefused,
    ContentTooLarge,
    declared_length,
    may_be_read,
    note_full_disk,
    read_body,
    take_whole,
)
from djserve.handlers.chain import AsyncChain, Stage
from djserve.handlers.direct import DirectLane
from djserve.handlers.layers import IN_SYNC_LANE
from djserve.handlers.patches import (
    METHODS,
    NO_PATCHES,
    OriginalHandler,
    Patches,
    current_patches,
    is_asgiref_patched,
    refresh_patches,
    resolves_as_django,
)
from djserve.handlers.request_context import (
    Disconnect,
    RequestContext,
    guard,
    own_exchange,
    run_lane,
)
from djserve.handlers.responses import RETRY_AFTER, send_busy, send_refusal
from djserve.handlers.routing import Route, find_route, reusable_match, view_of
from djserve.handlers.runtime import (
    RequestThreads,
    current_config,
    make_hops,
    make_lease,
    read_setting,
)
from djserve.handlers.signals import prepare_thread
from djserve.handlers.state import keeps_nothing
from djserve.handlers.sync_lane import SyncHandler, serve_sync
from djserve.handlers.threads.asgiref_compat import inherits_threads
from djserve.handlers.threads.hops import Hops, InheritedHops, LeasedHops
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool
from djserve.handlers.twins import make_twins, twins_of
from djserve.instrumentation.spooled import note_refusal

if TYPE_CHECKING:
    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import Receive, Scope, Send

logger = logging.getLogger("djserve.handlers")

_INHERITS: ContextVar[bool] = ContextVar("djserve.handlers.inherits")
"""Whether the caller of ``__call__`` had said where synchronous code runs: Django's own
method, which replaced ones end in, says so itself."""


def get_asgi_application() -> ASGIHandler:
    """Set Django up and return its application, as Django's function of that name."""
    django.setup(set_prefix=False)
    return ASGIHandler()


class ASGIHandler(OriginalHandler):
    """The application for HTTP requests; ``pool`` is the process's own by default."""

    # Django sends 64 KiB at a time; larger parts cost a server no more memory than
    # the content that is there already.
    chunk_size = 2**18

    _making = Lock()
    _stages: Sequence[Stage] | None = None
    _twins: Mapping[str, type] | None = None
    _has_forks = False
    _sync_handler: SyncHandler | None = None

    # On the class: Django's subclass for static files does not call __init__.
    _pool: ThreadPool | None = None
    _threads: RequestThreads | None = None
    _config: ServerConfig | None = None
    _is_only_async = False
    _checked: Scope | None = None
    """The scope of the request that begins now, for which nothing is replaced."""
    _size = 0
    """How many attributes the instance had when none of them was a method."""

    def __init__(self, pool: ThreadPool | None = None) -> None:
        self._pool = pool
        self._config = current_config()
        super().__init__()

    @classmethod
    def take_over(cls, handler: OriginalHandler) -> ASGIHandler:
        """Return one with the middleware of a handler that Django has made.

        It may exist once only, and was made for asynchronous calls.
        """
        own = cls.__new__(cls)
        vars(own).update(vars(handler))
        own._is_only_async = True
        return own

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A subclass that changes how responses are made, in one mode only, means all.
        cls._is_only_async = (
            cls.get_response is ASGIHandler.get_response
            and cls.get_response_async is not ASGIHandler.get_response_async
        )

    @property
    def threads(self) -> RequestThreads:
        """The threads that run the synchronous code of requests."""
        if self._threads is None:
            limit = self.config.django.thread_queue_limit
            self._threads = RequestThreads(self._pool, limit)
        return self._threads

    @property
    def config(self) -> ServerConfig:
        """The limits that apply."""
        if self._config is None:
            self._config = current_config()
        return self._config

    def load_middleware(self, is_async: bool = True) -> None:
        """Make each middleware, for both lanes if it can serve both."""
        self._sync_handler = None
        if refresh_patches().loads:
            # An agent does something to each middleware, or to what calls them.
            super().load_middleware(is_async=True)
            self._stages = None
            self._twins = make_twins(self)
            if self._twins is None:
                self._is_only_async = True
            return
        chain = AsyncChain(self)
        for path in reversed(settings.MIDDLEWARE):
            chain.wrap(path)
        handler = chain.finish()
        hooks: Any = self
        hooks._view_middleware = chain.view_middleware
        hooks._template_response_middleware = chain.template_response_middleware
        hooks._exception_middleware = chain.exception_middleware
        hooks._middleware_chain = handler
        self._stages = chain.stages
        self._has_forks = any(stage.fork is not None for stage in chain.stages)
        single = [stage for stage in chain.stages if not stage.serves_both_lanes]
        if not single:
            self._sync_handler = SyncHandler(self._stages)
            return
        kept = [stage for stage in single if not keeps_nothing(stage.factory)]
        self._twins = twins_of(kept)
        if self._twins is None:
            self._is_only_async = True

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response for a request, synchronously."""
        handler = self._sync_handler or self._find_sync_handler()
        if handler is None:
            response: HttpResponseBase = async_to_sync(self.get_response_async)(request)
            return response
        if not self._has_forks:
            return handler.get_response(request)
        token = IN_SYNC_LANE.set(True)
        try:
            return handler.get_response(request)
        finally:
            IN_SYNC_LANE.reset(token)

    def _find_sync_handler(self) -> SyncHandler | None:
        """Make the middleware that the other lane's does not stand for, once."""
        with self._making:
            if self._sync_handler is None and not self._is_only_async:
                try:
                    self._sync_handler = SyncHandler(self._stages, self._twins)
                except Exception:
                    # Some can be made only once: they have been, for the other lane.
                    logger.exception(
                        "Middleware could not be made for synchronous views: all "
                        "views take the asynchronous lane"
                    )
                    self._is_only_async = True
            return self._sync_handler

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Resolve a request, or use what was found when its lane was chosen."""
        match = reusable_match(request) if resolves_as_django() else None
        if match is None:
            return super().resolve_request(request)
        request.resolver_match = match
        return match

    def adopt_response(self, response: HttpResponseBase) -> None:
        """Give a response of the synchronous lane what Django gives each response."""
        # Who sends request_finished.
        response._handler_class = type(self)  # type: ignore[attr-defined]
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size

    def direct_lane(self, calls: ApplicationCalls) -> DirectLane | None:
        """Return what answers djserve's own calls without a task, if that works."""
        if type(self) is not ASGIHandler or inherits_threads():
            return None
        return DirectLane(self, calls)

    def is_untouched(self) -> bool:
        """Whether nothing has been replaced: neither Django's methods nor ours."""
        return (
            current_patches() is NO_PATCHES
            and type(self) is ASGIHandler
            and ASGIHandler.__call__ is _CALL
            and ASGIHandler.handle is _HANDLE
            and ASGIHandler.get_response is _GET_RESPONSE
            and (len(self.__dict__) == self._size or self._has_own_methods())
            and not is_asgiref_patched()
        )

    def patches(self) -> Patches:
        """Return what has been replaced in Django's handler, and in this instance."""
        patches = current_patches()
        if self._has_own_methods():
            return patches
        return patches.with_instance(vars(self))

    def _has_own_methods(self) -> bool:
        """Whether no method has been replaced in this instance alone."""
        attributes = self.__dict__
        if len(attributes) == self._size:
            return True
        if METHODS.isdisjoint(attributes):
            self._size = len({**attributes, "_size": 0})
            return True
        return False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request; raises ValueError for any other scope."""
        route = _take_route(scope, receive)
        if route is not None:
            await self._serve(scope, receive, send, NO_PATCHES, route)
            return
        if scope["type"] == "lifespan":
            # Not even by way of an agent: it would report the error at each start.
            raise _unsupported(scope)
        patches = self.patches()
        if patches.enters or patches.converses:
            # What stands around Django's method ends in `handle`, and that is ours.
            token = _INHERITS.set(inherits_threads())
            try:
                await super().__call__(scope, receive, send)
            finally:
                _INHERITS.reset(token)
            return
        if scope["type"] != "http":
            raise _unsupported(scope)
        if not patches.found:
            self._checked = scope
        await self.handle(scope, receive, send)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the request's content, choose its lane, answer it."""
        checked, self._checked = self._checked, None
        # Looked at just before, by __call__.
        patches = NO_PATCHES if checked is scope else self.patches()
        if patches.converses:
            # Replaced wholly or not at all: Django's own, with all that it calls.
            await super().handle(scope, receive, send)
        else:
            await self._serve(scope, receive, send, patches, None)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        patches: Patches,
        found: Route | None,
    ) -> None:
        send = guard(send)
        try:
            body = await self._receive_body(scope, receive, send)
            if body is None:
                return
            with body:
                await self._answer(scope, receive, send, body, patches, found)
        except ClientDisconnected:
            return

    async def _receive_body(
        self, scope: Scope, receive: Receive, send: Send
    ) -> IO[bytes] | None:
        """Return the content; None if the client has gone or has been refused."""
        config = self.config
        try:
            if declared_length(scope) > config.http.body_size_limit:
                raise ContentTooLarge
            message = await receive()
            memory_limit = read_setting("FILE_UPLOAD_MAX_MEMORY_SIZE")
            body = take_whole(message, memory_limit, config.http.body_size_limit)
            if body is not None:
                return body
            limits = ContentLimits(
                memory_limit,
                config.http.body_size_limit,
                config.bounds.upload_disk_limit,
                config.bounds.body_time_limit,
                partial(self._is_wanted, scope),
            )
            return await read_body(message, receive, limits)
        except ContentRefused as refusal:
            # What is left of the content is not read: the connection cannot go on.
            fields = [(b"connection", b"close")]
            note_refusal(refusal.status)
            if refusal.status == 503:
                note_full_disk()
                fields.append((b"retry-after", RETRY_AFTER))
            await send_refusal(send, refusal.status, refusal.text, *fields)
            return None

    async def _is_wanted(self, scope: Scope) -> bool:
        """Return whether anything may read content that would go to the disk."""
        if type(self) is not ASGIHandler or self.patches().found:
            return True
        return may_be_read(scope, await find_route(scope))

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: IO[bytes],
        patches: Patches,
        found: Route | None,
    ) -> None:
        route = found or await find_route(scope)
        is_async = (
            self._is_only_async
            or patches.answers
            or (route is not None and route.is_async)
        )
        threads = self.threads
        if not is_async and threads.is_overloaded():
            await send_busy(scope, send, "THREAD_QUEUE_LIMIT")
            return
        mailbox = threads.mailbox()
        hops: Hops
        if found is not None:
            # By djserve's own server, which has looked for all of the rest, too.
            hops = LeasedHops(_take_lease(threads, route, is_async), mailbox)
        elif _inherits_threads(patches):
            hops = InheritedHops()
        else:
            hops = make_hops(_take_lease(threads, route, is_async), mailbox)
        disconnect = Disconnect(receive)
        context = RequestContext(
            scope, send, body, route, hops, mailbox, disconnect, self.chunk_size
        )
        serve = serve_async if is_async else serve_sync
        await run_lane(context, serve(self, context))


def _take_lease(threads: RequestThreads, route: Route | None, is_async: bool) -> Lease:
    """Return a lease; that of the synchronous lane is held for streams only."""
    view, name = view_of(route)
    if is_async:
        return make_lease(threads.pool, view, name, held=True, on_first=prepare_thread)
    return make_lease(threads.pool, view, name)


def _take_route(scope: Scope, receive: Receive) -> Route | None:
    """Return what the direct lane has found before it declined this very request.

    It has found nothing replaced and no parent whose thread is to be used, just before.
    """
    exchange = own_exchange(receive, HTTPExchange)
    if exchange is None or exchange.scope is not scope:
        return None
    route, exchange.route = exchange.route, None
    return cast("Route | None", route)


def _unsupported(scope: Scope) -> ValueError:
    return ValueError(
        f"Django can only handle ASGI/HTTP connections, not {scope['type']}."
    )


_CALL = ASGIHandler.__call__
_HANDLE = ASGIHandler.handle
_GET_RESPONSE = ASGIHandler.get_response


def _inherits_threads(patches: Patches) -> bool:
    """Whether the caller of the application says where synchronous code runs."""
    if patches.enters:
        inherits = _INHERITS.get(None)
        if inherits is not None:
            return inherits
    return inherits_threads()
