"""The configuration in force for this process, and the pool of threads made from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable
from typing import Any

from django.conf import LazySettings, settings
from django.db import DEFAULT_DB_ALIAS, connections

from djserve.conf.loader import load
from djserve.conf.schema import DjangoConfig, ServerConfig
from djserve.cpus import count_cpus
from djserve.handlers.connection_bound import bound_connections
from djserve.handlers.cursors import (
    is_database_in_use,
    tidy_connections,
    track_cursors,
)
from djserve.handlers.patches import is_asgiref_patched
from djserve.handlers.threads.asgiref_compat import count_blocked
from djserve.handlers.threads.hops import (
    LeasedHops,
    PassedHops,
    forget_closed_loop,
)
from djserve.handlers.threads.leases import REQUESTS, Action, Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool

_MISSING: Any = object()

# Django's object keeps each setting in its dictionary once it has been asked for, and
# empties that in place when settings are overridden. Its attributes cost 15 times as
# much as the dictionary's: 250 ns, and an asynchronous request reads fourteen
# (benchmark: django_async). What others put in its place (Dynaconf) is asked itself.
_known: dict[str, Any] = vars(settings) if type(settings) is LazySettings else {}


def read_setting(name: str) -> Any:
    """Return what ``getattr(settings, name)`` returns."""
    value = _known.get(name, _MISSING)
    return getattr(settings, name) if value is _MISSING else value


CEILING = 256
"""Threads that may be at work by default, if all but some of them only wait.

One that waits costs some 100 KiB; database connections are bounded apart from it.
"""

FULL_WITH_SQLITE = 0.8
"""Share of the CPUs that a process may use before it runs fewer threads, with SQLite.

Threads that write to its one file wait for each other in naps, and lose more by these
than the rest of the CPUs would give (benchmark: django_session).
"""

_configured: ServerConfig | None = None
_pool: tuple[int, ThreadPool] | None = None


def configure(config: ServerConfig) -> None:
    """Take the server's configuration (with the command line) for ``settings.DJSERVE``.

    To be called before the first request; threads that run already stay.
    """
    global _configured
    _configured = config


def current_config() -> ServerConfig:
    """Return the server's configuration, or that of the settings under other servers.

    Raises ConfigError if ``settings.DJSERVE`` is wrong.
    """
    return load() if _configured is None else _configured


def thread_count(config: DjangoConfig) -> int:
    """Return the number of threads that a configuration asks for on this machine."""
    if config.threads is not None:
        return config.threads
    # Views wait (for a database, for other services) more than they compute: several
    # for each CPU. Each thread may hold a connection to each database: not too many.
    return min(32, 4 * count_cpus() + 4)


def thread_ceiling(config: DjangoConfig) -> int:
    """Return how many threads may be at work, those included that only wait."""
    return CEILING if config.threads is None else config.threads


def make_pool(
    size: int,
    *,
    ceiling: int | None = None,
    share: float = 1.0,
    wait_limit: float | None = None,
) -> ThreadPool:
    """Return a pool whose threads close their database connections when they end."""
    track_cursors()
    return ThreadPool(
        size,
        ceiling=ceiling,
        share=share,
        wait_limit=wait_limit,
        count_blocked=count_blocked,
        on_thread_end=connections.close_all,
        full=FULL_WITH_SQLITE if _is_default_sqlite() else None,
    )


def _is_default_sqlite() -> bool:
    """Whether the default database is SQLite, SpatiaLite, or one in another's shell."""
    return "lite" in str(connections.settings[DEFAULT_DB_ALIAS].get("ENGINE", ""))


def _make_shared_pool(config: DjangoConfig) -> ThreadPool:
    pool = make_pool(
        thread_count(config),
        ceiling=thread_ceiling(config),
        share=config.thread_share / 100,
        wait_limit=config.thread_wait_timeout,
    )
    bound_connections(
        pool, config.database_connections, config.database_connection_timeout
    )
    return pool


def shared_pool() -> ThreadPool:
    """Return the pool of this process, for requests and WebSockets alike."""
    global _pool
    # A fork has the parent's pool but none of its threads.
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), _make_shared_pool(current_config().django))
    return _pool[1]


def close_shared_pool(timeout: float) -> None:
    """End the process's pool, with its threads' connections; the next use makes one."""
    global _pool
    closing, _pool = _pool, None
    if closing is not None and closing[0] == os.getpid():
        closing[1].close(timeout)


def make_lease(
    pool: ThreadPool,
    view: Hashable | None = None,
    view_name: str = "",
    *,
    group: str = REQUESTS,
    held: bool = False,
    on_first: Action | None = None,
    kind: type[Lease] = Lease,
) -> Lease:
    """Return a lease that looks after its thread's database connections.

    Those that are past their age are closed before the thread goes back; while rows are
    still fetched through one, or a transaction is open, the thread stays.
    """
    return kind(
        pool,
        held=held,
        on_first=on_first,
        on_idle=_tidy_thread,
        must_keep=is_database_in_use,
        group=group,
        view=view,
        view_name=view_name,
    )


def _tidy_thread() -> None:
    """Leave a thread as the next call in it expects it."""
    tidy_connections()
    forget_closed_loop()


def make_hops(lease: Lease, mailbox: Mailbox) -> LeasedHops:
    """Return the way to a lease's thread; through asgiref's methods if replaced."""
    kind = PassedHops if is_asgiref_patched() else LeasedHops
    return kind(lease, mailbox)


class RequestThreads:
    """The threads that run the synchronous code of one handler's requests.

    To be made when the first request comes: a pool that was made before a fork has
    no threads after it.
    """

    def __init__(self, pool: ThreadPool | None, queue_limit: int | None) -> None:
        self.pool = shared_pool() if pool is None else pool
        self._queue_limit = queue_limit
        self._mailbox: Mailbox | None = None

    def is_overloaded(self) -> bool:
        """Return whether too many requests wait for a thread."""
        limit = self._queue_limit
        return limit is not None and self.pool.excess >= limit

    def mailbox(self) -> Mailbox:
        """Return what the running loop and the threads hand each other things by."""
        loop = asyncio.get_running_loop()
        if self._mailbox is None or self._mailbox.loop is not loop:
            self._mailbox = Mailbox(loop)
        return self._mailbox
