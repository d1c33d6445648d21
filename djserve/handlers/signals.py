"""The signals at a request's start and end, with a hop only if one is needed.

Django's own receivers look after the database connections of the thread that they run
in. A request that has taken no thread has none: for such a request they may run on the
loop, where they find nothing to do, or not at all.
"""

from __future__ import annotations

from typing import Any

from django.core.cache import caches, close_caches
from django.core.cache.backends.base import BaseCache
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponseBase

from djserve.handlers.cursors import reset_debugging
from djserve.handlers.patches import is_original_method
from djserve.handlers.threads.hops import forget_closed_loop

_KNOWN_AT_START, _KNOWN_AT_END = (
    # As keys of a signal's entries: of the receiver, and of its sender, which is any.
    {(id(receiver), id(None)) for receiver in receivers}
    for receivers in (
        (reset_queries, close_old_connections),
        (close_caches, close_old_connections, reset_urlconf),
    )
)


_plain: dict[Signal, list[Any]] = {}
"""The receivers that a signal had when all of them were known."""

# What agents replace to see each signal, or each call of a receiver (Sentry).
_SEND, _ASEND = Signal.send, Signal.asend
_LIVE_RECEIVERS: Any = Signal._live_receivers
# Some replace the code inside of the function.
_ASEND_CODE, _LIVE_RECEIVERS_CODE = (
    getattr(method, "__code__", None) for method in (_ASEND, _LIVE_RECEIVERS)
)
_IS_ORIGINAL = all(
    is_original_method(Signal, name) for name in ("send", "asend", "_live_receivers")
)


def starts_plainly() -> bool:
    """Whether ``request_started`` has only Django's receivers, and no observer."""
    return _has_only(request_started, _KNOWN_AT_START)


def prepare_thread() -> None:
    """Do in a thread what Django's receivers of ``request_started`` do there."""
    forget_closed_loop()
    reset_debugging()
    reset_queries()
    close_old_connections()


def closes_plainly(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether closing a response in a request without a thread does no I/O."""
    closers: list[Any] = response._resource_closers  # type: ignore[attr-defined]
    return (
        closes_as_django(response)
        and closers == [request.close]
        and not getattr(request, "_files", None)
        and _has_only(request_finished, _KNOWN_AT_END)
        and not any(map(_needs_close, caches.all(initialized_only=True)))
    )


def closes_as_django(response: HttpResponseBase) -> bool:
    """Whether closing a response sends ``request_finished``, and does no more."""
    return (
        type(response).close is HttpResponseBase.close
        and "close" not in response.__dict__
    )


def _needs_close(cache: BaseCache) -> bool:
    """Whether closing a cache does anything; those in memory and files inherit it."""
    return type(cache).close is not BaseCache.close


def _has_only(signal: Signal, known: set[tuple[int, int]]) -> bool:
    kind: Any = Signal
    return (
        _IS_ORIGINAL
        and kind.send is _SEND
        and kind.asend is _ASEND
        and kind._live_receivers is _LIVE_RECEIVERS
        and _ASEND.__code__ is _ASEND_CODE
        and _LIVE_RECEIVERS.__code__ is _LIVE_RECEIVERS_CODE
        and (signal.receivers == _plain.get(signal) or _are_known(signal, known))
    )


def _are_known(signal: Signal, known: set[tuple[int, int]]) -> bool:
    """Whether a signal has these receivers and no others; then they are remembered.

    All of them: what a project has disconnected must not be done in its place.
    """
    receivers = [*signal.receivers]
    if {entry[0] for entry in receivers} != known:
        return False
    _plain[signal] = receivers
    return True
