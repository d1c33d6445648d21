"""Calls into a lease's thread by asgiref's methods, where an agent has replaced them.

Agents that know a request by its thread or task (New Relic) carry it over in
``SyncToAsync.__call__`` and ``SyncToAsync.thread_handler``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from asgiref import sync
from asgiref.sync import SyncToAsync, sync_to_async

from djserve.handlers.patches import is_original
from djserve.handlers.threads.hops import LeasedHops
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox

T = TypeVar("T")

_CALL, _HANDLER = vars(SyncToAsync)["__call__"], vars(SyncToAsync)["thread_handler"]
_CALL_CODE, _HANDLER_CODE = (
    getattr(method, "__code__", None) for method in (_CALL, _HANDLER)
)
_IS_ORIGINAL = is_original(sync, "SyncToAsync.__call__", _CALL) and is_original(
    sync, "SyncToAsync.thread_handler", _HANDLER
)


class PassedHops(LeasedHops):
    """Calls go to the lease that the context names, as asgiref passes them on."""

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return await sync_to_async(fn, thread_sensitive=True)(*args)


def make_hops(lease: Lease, mailbox: Mailbox) -> LeasedHops:
    """Return the way to a lease's thread, by asgiref's methods where they matter."""
    if is_asgiref_patched():
        return PassedHops(lease, mailbox)
    return LeasedHops(lease, mailbox)


def is_asgiref_patched() -> bool:
    """Whether what asgiref does around a call in a thread has been replaced."""
    kind = SyncToAsync
    return not (
        _IS_ORIGINAL
        and kind.__call__ is _CALL
        and kind.thread_handler is _HANDLER
        and _CALL.__code__ is _CALL_CODE
        and _HANDLER.__code__ is _HANDLER_CODE
    )
