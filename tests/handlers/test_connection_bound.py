"""A pool's threads share a number of connections, in order, and give them back."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import (
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from djserve.handlers.connection_bound import (
    _bounds,
    _Place,
    bound_connections,
    is_refusal,
    pool_size,
    reset_session,
)
from djserve.handlers.cursors import (
    end_forgotten_transactions,
    is_connection_in_use,
)
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.runtime import make_lease, make_pool
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool
from tests.handlers.test_cursors import get
from tests.support.children import exit_code_of, held_elsewhere
from tests.support.logs import own_messages
from tests.support.postgresql import running_postgresql
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

ALIAS = "bounded"
MOST = 3


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with running_postgresql() as database:
        yield database


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest.fixture(params=[0, 60, None])
def age(request: pytest.FixtureRequest) -> int | None:
    age: int | None = request.param
    return age


@pytest.fixture
def database(
    server: dict[str, Any],
    age: int | None,
    options: dict[str, Any],
    django_db_blocker: Any,
) -> Iterator[None]:
    defaults = {**connections.settings["default"], **server}
    connections.settings[ALIAS] = {
        **defaults,
        "CONN_MAX_AGE": age,
        "OPTIONS": options,
    }
    with django_db_blocker.unblock():
        yield
        connections[ALIAS].close()
        close_pool = getattr(connections[ALIAS], "close_pool", None)
        if options and close_pool is not None:
            close_pool()
    del connections[ALIAS]
    del connections.settings[ALIAS]


MakePool = Callable[..., ThreadPool]


@pytest.fixture
def pool_with() -> Iterator[MakePool]:
    """Give ``pool_with(size, most, timeout, share)``: connections are bounded."""
    with ExitStack() as stack:

        def make(
            size: int,
            most: int | None = MOST,
            timeout: float = 60,
            share: float = 1.0,
        ) -> ThreadPool:
            pool = make_pool(size, share=share)
            stack.callback(lambda: pool.close(60))
            bound_connections(pool, most, timeout)
            return pool

        yield make


class Count:
    """How many connections Django has open; the server itself is late to notice."""

    now = 0
    opened = 0
    lock = threading.Lock()

    @classmethod
    def add(cls, number: int) -> None:
        with cls.lock:
            cls.now += number
            cls.opened += max(0, number)


@pytest.fixture(autouse=True)
def _count(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    from django.db.backends.postgresql.base import DatabaseWrapper

    kind: Any = DatabaseWrapper
    connect, close = kind.get_new_connection, kind._close

    def get_new_connection(self: Any, *args: Any) -> Any:
        connection = connect(self, *args)
        Count.add(1)
        return connection

    def _close(self: Any) -> None:
        if self.connection is not None:
            Count.add(-1)
        close(self)

    def detach(self: Any) -> Any:
        close = take(self)
        Count.add(-(close is not None))
        return close

    take = _Place.detach
    monkeypatch.setattr(_Place, "detach", detach)
    monkeypatch.setattr(Count, "now", 0)
    monkeypatch.setattr(Count, "opened", 0)
    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", get_new_connection)
    monkeypatch.setattr(DatabaseWrapper, "_close", _close)


def query(seconds: float = 0.0) -> int:
    """Make a query; return how many connections are open."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
        return Count.now


def submit(pool: ThreadPool, function: Callable[..., Any], *args: Any) -> Future[Any]:
    return make_lease(pool).submit(function, *args)


@pytest.mark.usefixtures("database")
def test_no_more_threads_are_connected_than_the_bound_says(pool_with: MakePool) -> None:
    pool = pool_with(12)

    counts = [submit(pool, query, 0.02) for _ in range(36)]

    assert max(future.result(60) for future in counts) <= MOST


@pytest.mark.parametrize("age", [60, None])
@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.usefixtures("database")
def test_threads_that_do_without_lose_what_an_earlier_job_has_left(
    pool_with: MakePool, looks: bool
) -> None:
    pool = pool_with(8, 2)
    barrier = threading.Barrier(2)
    begun, gate = threading.Semaphore(0), threading.Event()

    def meet() -> None:
        query()
        barrier.wait(60)

    def wait() -> bool:
        if looks:
            # As Django does at the begin of each request.
            close_old_connections()
        begun.release()
        return gate.wait(60)

    for future in [submit(pool, meet) for _ in range(2)]:
        future.result(60)
    # Both connections are kept, by threads whose next jobs ask for none.
    blockers = [submit(pool, wait) for _ in range(2)]
    for _ in blockers:
        begun.acquire(timeout=60)
    future = submit(pool, query)

    assert future.result(60) <= 2
    gate.set()
    assert all(blocker.result(60) for blocker in blockers)


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_idle_threads_give_theirs_back(pool_with: MakePool) -> None:
    pool = pool_with(8, 2)
    barrier = threading.Barrier(6)

    def meet() -> int:
        barrier.wait(60)
        return query()

    counts = [submit(pool, meet) for _ in range(6)]

    assert max(future.result(60) for future in counts) <= 2


@pytest.mark.parametrize("view", [None, "view"])
@pytest.mark.parametrize("age", [60, None])
@pytest.mark.usefixtures("database")
def test_connections_that_are_kept_pass_from_job_to_job(
    pool_with: MakePool, view: str | None
) -> None:
    pool = pool_with(32, share=0.8)

    leases = [make_lease(pool, view, view or "") for _ in range(300)]
    for future in [lease.submit(query) for lease in leases]:
        future.result(60)

    assert Count.opened <= MOST
    assert Count.now == Count.opened


@pytest.mark.parametrize("age", [60])
@pytest.mark.parametrize("is_atomic", [False, True])
@pytest.mark.usefixtures("database")
def test_job_that_loses_its_connection_before_it_can_use_it_gets_another(
    pool_with: MakePool, monkeypatch: pytest.MonkeyPatch, is_atomic: bool
) -> None:
    pool = pool_with(4, 1)
    take = _Place._take

    def take_late(self: Any) -> Any:
        monkeypatch.setattr(_Place, "_take", take)
        submit(pool, query).result(60)
        return take(self)

    def use() -> None:
        with transaction.atomic(using=ALIAS) if is_atomic else nullcontext():
            query()

    submit(pool, use).result(60)
    monkeypatch.setattr(_Place, "_take", take_late)
    # In the same thread, which is idle.
    submit(pool, use).result(60)

    assert (Count.opened, Count.now) == (1, 1)


@pytest.mark.parametrize("age", [0])
@pytest.mark.usefixtures("database")
def test_connections_that_are_not_kept_are_not_handed_on(pool_with: MakePool) -> None:
    pool = pool_with(4, 1)

    for future in [submit(pool, query) for _ in range(8)]:
        future.result(60)

    assert Count.opened == 8


def leave_behind() -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE own (number integer)")


def find() -> str | None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT to_regclass('own')")
        found: str | None = cursor.fetchone()[0]
        return found


POOL_OF_ONE = {"pool": {"min_size": 1, "max_size": 1}}
PREPARING = {**POOL_OF_ONE, "prepare_threshold": 0, "server_side_binding": True}


@pytest.mark.parametrize(
    ("age", "options"),
    [(60, {}), (0, POOL_OF_ONE), (0, PREPARING)],
    ids=["plain", "pool", "preparing"],
)
@pytest.mark.usefixtures("database")
def test_session_of_a_request_that_goes_on_is_handed_to_no_other(
    pool_with: MakePool,
) -> None:
    pool = pool_with(4, 1)
    lease = make_lease(pool, held=True)
    lease.submit(leave_behind).result(60)

    found = submit(pool, find).result(60)

    assert found is None
    assert Count.opened == 2
    lease.release()


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_cursors_outlive_the_reset_of_their_session(pool_with: MakePool) -> None:
    def read() -> list[Any]:
        connection = connections[ALIAS]
        set_user("first")
        with connection.chunked_cursor() as cursor:
            cursor.execute("SELECT generate_series(1, 1000)")
            reset_session(connection, connection.connection)
            return [cursor.fetchone(), get_user()]

    assert submit(pool_with(1), read).result(60) == [(1,), ""]


def set_user(name: str) -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT set_config('app.user', %s, false)", [name])


def get_user() -> str | None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT current_setting('app.user', true)")
        found: str | None = cursor.fetchone()[0]
        return found


@pytest.mark.parametrize(
    ("age", "options", "is_busy"),
    # A pool's connection is not taken from a job that runs.
    [(60, {}, False), (60, {}, True), (0, POOL_OF_ONE, False)],
    ids=["parked", "busy", "parked-pool"],
)
@pytest.mark.usefixtures("database")
def test_request_that_has_lost_its_session_gets_no_other_user_s(
    pool_with: MakePool, is_busy: bool
) -> None:
    pool = pool_with(4, 1)
    gate, has_begun = threading.Event(), threading.Event()
    lease = make_lease(pool, held=True)
    lease.submit(set_user, "first").result(60)

    def wait_and_get() -> str | None:
        has_begun.set()
        assert gate.wait(60)
        return get_user()

    if is_busy:
        future = lease.submit(wait_and_get)
        assert has_begun.wait(60)
    submit(pool, set_user, "second").result(60)
    if not is_busy:
        future = lease.submit(wait_and_get)
    gate.set()

    # As in a session that is new: what it has set is gone, and no other's is there.
    assert future.result(60) in {None, ""}
    lease.release()


def get_user_raw() -> str | None:
    """Ask by the driver's own means, of a connection that Django may have open."""
    connections[ALIAS].ensure_connection()
    driver = connections[ALIAS].connection
    found: str | None = driver.execute(
        "SELECT current_setting('app.user', true)"
    ).fetchone()[0]
    return found


@transaction.atomic(using=ALIAS)
def get_user_atomically() -> str | None:
    return get_user()


@pytest.mark.parametrize("look", [get_user, get_user_raw, get_user_atomically])
@pytest.mark.parametrize(
    ("age", "options"), [(60, {}), (0, {}), (0, POOL_OF_ONE)], ids=str
)
@pytest.mark.usefixtures("database")
def test_stream_that_goes_on_sees_no_other_user_s_session(
    pool_with: MakePool, look: Callable[[], str | None], age: int
) -> None:
    created: list[str] = []

    def note(connection: Any, **kwargs: object) -> None:
        created.append(connection.alias)

    pool = pool_with(1)
    lease = make_lease(pool, held=True)
    lease.submit(set_user, "first").result(60)
    # The response has begun, and its parts come from an asynchronous generator.
    lease.relax()
    own = lease.submit(look).result(60)
    submit(pool, set_user, "second").result(60)
    connection_created.connect(note)
    try:
        found = lease.submit(look).result(60)
    finally:
        connection_created.disconnect(note)

    # With CONN_MAX_AGE = 0 each part has a session of its own.
    assert own == ("first" if age else own)
    assert own in {"first", None, ""}
    assert found in {None, ""}
    # A project may set up what is new.
    assert created == [ALIAS]
    assert Count.now <= 1


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_stream_whose_session_was_handed_on_gets_none_with_another_user(
    pool_with: MakePool,
) -> None:
    pool = pool_with(2, 1)
    lease = make_lease(pool)
    gate = threading.Event()
    lease.submit(set_user, "first").result(60)
    # In the same thread, from which its connection is taken.
    blocker = submit(pool, gate.wait, 60)
    submit(pool, set_user, "second").result(60)
    gate.set()
    blocker.result(60)

    assert lease.submit(get_user).result(60) in {None, ""}


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_session_is_renewed_before_a_transaction_without_autocommit(
    pool_with: MakePool,
) -> None:
    connections.settings[ALIAS]["AUTOCOMMIT"] = False
    pool = pool_with(1)
    lease = make_lease(pool)

    def set_and_commit(name: str) -> None:
        set_user(name)
        transaction.commit(using=ALIAS)

    def look() -> tuple[str | None, bool]:
        with transaction.atomic(using=ALIAS):
            return get_user(), connections[ALIAS].in_atomic_block

    lease.submit(set_and_commit, "first").result(60)
    submit(pool, set_and_commit, "second").result(60)
    found, is_atomic = lease.submit(look).result(60)

    assert found in {None, ""}
    assert is_atomic
    assert not lease.submit(lambda: connections[ALIAS].get_autocommit()).result(60)


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_query_after_a_close_within_a_block_takes_no_place_for_good(
    pool_with: MakePool,
) -> None:
    pool = pool_with(2, 1, 5)
    lease = make_lease(pool, held=True)

    def close() -> None:
        with transaction.atomic(using=ALIAS):
            query()
            connections[ALIAS].close()
            with suppress(Exception):
                query()

    lease.submit(close).result(60)

    assert submit(pool, query).result(60) == 1
    lease.release()


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_stream_keeps_its_thread_if_a_backend_may_know_its_user_there(
    pool_with: MakePool,
) -> None:
    connections.settings[ALIAS]["ENGINE"] = "tests.support.tenants"
    pool = pool_with(4)

    async def main() -> list[bytes]:
        parts: list[bytes] = []
        first = asyncio.create_task(get(application, "/streams/first/", parts))
        while not first.done():
            # In whatever thread is free.
            await get(application, "/tenant/second/", [])
        await first
        return parts

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        application = ASGIHandler(pool)
        parts = asyncio.run(main())

    assert parts == [b"first"] * 3


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_request_that_begins_has_the_session_as_it_was_left(
    pool_with: MakePool,
) -> None:
    pool = pool_with(1)
    submit(pool, set_user, "first").result(60)

    # As with Django's persistent connections; no query is spent on a reset.
    assert submit(pool, get_user).result(60) == "first"


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_session_that_cannot_be_reset_is_closed(
    pool_with: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_with(1)
    lease = make_lease(pool)
    lease.submit(set_user, "first").result(60)
    submit(pool, set_user, "second").result(60)
    monkeypatch.setattr("djserve.handlers.connection_bound.RESET", "NOT POSTGRESQL")

    assert lease.submit(get_user).result(60) in {None, ""}
    assert (Count.opened, Count.now) == (2, 1)


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_connection_that_is_handed_on_is_set_up_like_a_new_one(
    pool_with: MakePool,
) -> None:
    pool = pool_with(4, 1)
    created: list[int] = []

    def note(connection: Any, **kwargs: object) -> None:
        if connection.alias == ALIAS:
            created.append(threading.get_ident())

    def age_of() -> tuple[int, float | None]:
        query()
        return threading.get_ident(), connections[ALIAS].close_at

    connection_created.connect(note)
    try:
        first, close_at = submit(pool, age_of).result(60)
        gate = threading.Event()
        blocker = submit(pool, gate.wait, 60)
        second, same = submit(pool, age_of).result(60)
        gate.set()
        blocker.result(60)
    finally:
        connection_created.disconnect(note)

    # It is as old as it was.
    assert same == close_at
    assert created == [first, second]
    assert first != second
    assert Count.opened == 1


@pytest.mark.parametrize("has_checks", [True, False])
@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_connection_that_the_server_has_closed_is_found_by_its_health_check(
    pool_with: MakePool, monkeypatch: pytest.MonkeyPatch, has_checks: bool
) -> None:
    monkeypatch.setitem(connections.settings[ALIAS], "CONN_HEALTH_CHECKS", has_checks)
    pool = pool_with(4, 1)

    def pid() -> int:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            found: int = cursor.fetchone()[0]
            return found

    first = submit(pool, pid).result(60)
    gate = threading.Event()
    blocker = submit(pool, gate.wait, 60)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [first])
    future = submit(pool, pid)

    if has_checks:
        assert future.result(60) != first
    else:
        # As in a thread that finds its own in such a state.
        with pytest.raises(OperationalError):
            future.result(60)
    gate.set()
    blocker.result(60)


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_threads_that_are_held_between_jobs_give_theirs_back(
    pool_with: MakePool,
) -> None:
    pool = pool_with(4, 2)
    held = [make_lease(pool, held=True) for _ in range(10)]

    counts = [lease.submit(query).result(60) for lease in held]

    assert max(counts) <= 2
    assert pool.stats().parked == 10
    for lease in held:
        lease.release()


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_transaction_keeps_its_connection_and_others_fail_in_time(
    pool_with: MakePool,
) -> None:
    pool = pool_with(4, 1, 0.2)
    lease = make_lease(pool, held=True)
    atomic = transaction.atomic(using=ALIAS)

    def begin() -> None:
        atomic.__enter__()
        query()

    lease.submit(begin).result(60)
    with pytest.raises(OperationalError) as caught:
        submit(pool, query).result(60)
    count = lease.submit(query).result(60)
    lease.submit(atomic.__exit__, None, None, None).result(60)
    lease.release()

    assert count == 1
    assert str(caught.value) == (
        f"No connection to the database '{ALIAS}' has come free in 0.2 seconds: "
        "all 1 that DATABASE_CONNECTIONS allows in this process are in use"
    )
    # Who has given up waits no more, and the place is free again.
    assert submit(pool, query).result(60) == 1


@pytest.mark.parametrize("age", [60])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.usefixtures("database")
def test_process_that_a_view_forks_is_not_bound(pool_with: MakePool) -> None:
    pool = pool_with(4, 1, 0.2)
    lease = make_lease(pool, held=True)
    atomic = transaction.atomic(using=ALIAS)

    def begin() -> None:
        atomic.__enter__()
        query()

    def fork() -> int:
        # As Django does at the begin of each request.
        close_old_connections()
        assert not connections[ALIAS].connection
        with held_elsewhere(_bounds[pool].ledger.lock):
            pid = os.fork()
            if pid == 0:
                code = 2
                try:
                    connections.close_all()
                    code = 10 + query()
                finally:
                    os._exit(code)
        return pid

    lease.submit(begin).result(60)

    assert exit_code_of(submit(pool, fork).result(60)) == 12
    lease.submit(atomic.__exit__, None, None, None).result(60)
    lease.release()


@pytest.mark.parametrize("age", [0])
@pytest.mark.usefixtures("database")
def test_places_are_given_in_the_order_in_which_they_were_asked_for(
    pool_with: MakePool,
) -> None:
    pool = pool_with(6, 1)
    order: list[int] = []
    gate, has_place = threading.Event(), threading.Event()

    def first() -> None:
        query()
        has_place.set()
        assert gate.wait(60)

    def other(number: int) -> None:
        query()
        order.append(number)

    futures = [submit(pool, first)]
    # On a busy machine the second might be faster.
    assert has_place.wait(60)
    for number in range(4):
        lease = make_lease(pool)
        futures.append(lease.submit(other, number))
        # It stands in the line for a place.
        asyncio.run(wait_until(partial(getattr, lease, "_waits_since")))
    gate.set()
    for future in futures:
        future.result(60)

    assert order == [0, 1, 2, 3]


@pytest.mark.parametrize("age", [0])
@pytest.mark.parametrize(
    "options", [{"pool": {"min_size": 1, "max_size": 2, "timeout": 20}}]
)
@pytest.mark.usefixtures("database")
def test_pool_of_django_bounds_the_threads(pool_with: MakePool) -> None:
    pytest.importorskip("psycopg_pool")
    pool = pool_with(8, None)
    held = [make_lease(pool, held=True) for _ in range(6)]

    counts = [lease.submit(query).result(60) for lease in held]
    counts += [future.result(60) for future in [submit(pool, query) for _ in range(9)]]

    assert max(counts) <= 2
    for lease in held:
        lease.release()


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.usefixtures("database")
def test_view_that_queries_and_waits_leaves_connections_to_others(
    pool_with: MakePool, is_warm: bool
) -> None:
    pool = pool_with(12, 4, share=0.8)
    gate = threading.Event()
    met = threading.Barrier(4)

    def slow() -> None:
        query()
        assert gate.wait(60)

    def warm() -> None:
        query()
        met.wait(60)

    if is_warm:
        # Threads come to the slow view with connections that are open already.
        for future in [submit(pool, warm) for _ in range(4)]:
            future.result(60)
    waiting = [make_lease(pool, "slow", "the slow view").submit(slow) for _ in range(8)]
    time.sleep(0.1)
    counts = [
        make_lease(pool, "fast", "fast").submit(query).result(60) for _ in range(3)
    ]

    assert max(counts) <= 4
    assert not any(future.done() for future in waiting)
    gate.set()
    for future in waiting:
        future.result(60)


@pytest.mark.usefixtures("database")
def test_view_that_closes_its_connection_before_it_waits_holds_none(
    pool_with: MakePool,
) -> None:
    pool = pool_with(12, 4, share=0.8)
    gate = threading.Event()
    waiting = threading.Semaphore(0)

    def pay() -> int:
        query()
        connections[ALIAS].close()
        waiting.release()
        assert gate.wait(60)
        return query()

    views = [make_lease(pool, "pay", "pay").submit(pay) for _ in range(8)]

    # Three at most would be connected at a time.
    assert all(waiting.acquire(timeout=60) for _ in views)
    gate.set()
    assert max(view.result(60) for view in views) <= 4


SECOND = "second"


@pytest.fixture
def second(database: None) -> Iterator[None]:
    """Have the same database under a second alias."""
    connections.settings[SECOND] = connections.settings[ALIAS]
    yield
    connections[SECOND].close()
    del connections[SECOND]
    del connections.settings[SECOND]


@pytest.mark.parametrize("is_atomic", [False, True])
@pytest.mark.usefixtures("second")
def test_two_databases_may_be_used_in_either_order(
    pool_with: MakePool, is_atomic: bool
) -> None:
    pool = pool_with(8, 2)
    both = threading.Barrier(4)

    def use(aliases: list[str]) -> None:
        with ExitStack() as stack:
            for number, alias in enumerate(aliases):
                if is_atomic:
                    stack.enter_context(transaction.atomic(alias))
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT 1")
                if not number:
                    # All places of both are taken.
                    both.wait(60)

    ways = [[ALIAS, SECOND], [SECOND, ALIAS]] * 2
    futures = [make_lease(pool, way[0], way[0]).submit(use, way) for way in ways]

    for future in futures:
        future.result(60)


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_transaction_over_several_jobs_is_committed_while_others_wait(
    pool_with: MakePool,
) -> None:
    pool = pool_with(4, 1)
    lease = make_lease(pool, held=True)
    atomic = transaction.atomic(using=ALIAS)

    def begin() -> None:
        atomic.__enter__()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("CREATE TABLE kept (number integer)")

    def look() -> bool:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("DROP TABLE kept")
        return True

    lease.submit(begin).result(60)
    others = [submit(pool, query) for _ in range(3)]
    lease.submit(atomic.__exit__, None, None, None).result(60)
    lease.release()

    for other in others:
        other.result(60)
    assert submit(pool, look).result(60)


@pytest.mark.parametrize("age", [0])
@pytest.mark.usefixtures("database")
def test_time_spent_waiting_for_a_connection_is_the_servers(
    pool_with: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pool_with(4, 1)
    gate = threading.Event()

    def hold() -> None:
        query()
        assert gate.wait(60)

    holding = make_lease(pool, "report", "the report").submit(hold)
    while not Count.now:
        time.sleep(0.01)
    lease = make_lease(pool, "login", "login")
    future = lease.submit(query)
    while lease.waiting_time() < 1.2 or not own_messages(caplog):
        assert not future.done()
        time.sleep(0.01)
    gate.set()
    future.result(60)
    holding.result(60)

    waited = lease.waiting_time()
    assert waited >= 1.2
    assert lease.waiting_time() == waited
    assert [text.split(", the first")[0] for text in own_messages(caplog)] == [
        f"1 calls wait for a connection to the database '{ALIAS}'"
    ]
    assert "(the report: 1): DATABASE_CONNECTIONS bounds them" in caplog.text


@pytest.mark.parametrize("age", [0])
@pytest.mark.usefixtures("database")
def test_database_without_a_connection_left_is_asked_again(
    pool_with: MakePool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS limited")
        cursor.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 1")
    connections[ALIAS].close()
    monkeypatch.setitem(connections.settings[ALIAS], "USER", "limited")
    pool = pool_with(4, 4)
    gate = threading.Event()
    asked = threading.Event()

    def hold() -> None:
        query()
        asked.set()
        assert gate.wait(60)

    holding = submit(pool, hold)
    assert asked.wait(60)
    future = submit(pool, query)
    while "no connection left" not in caplog.text:
        assert not future.done()
        time.sleep(0.01)
    gate.set()

    assert future.result(60) == 1
    holding.result(60)
    assert "Each worker may open 4: lower DATABASE_CONNECTIONS" in caplog.text


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_place_of_a_connection_that_cannot_be_made_is_free_again(
    pool_with: MakePool,
) -> None:
    pool = pool_with(2, 1)
    connections.settings[ALIAS]["NAME"] = "missing"
    for _ in range(3):
        with pytest.raises(OperationalError, match="missing"):
            submit(pool, query).result(60)
    connections.settings[ALIAS]["NAME"] = "postgres"

    def start_again() -> int:
        del connections[ALIAS]
        return query()

    assert submit(pool, start_again).result(60) == 1


GATE: list[asyncio.Event] = []


async def asks_once(request: HttpRequest) -> HttpResponse:
    count = await sync_to_async(query)()
    GATE[1].set()
    await GATE[0].wait()
    again = await sync_to_async(query)()
    return HttpResponse(f"{max(count, again)}")


def asks(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{query(0.01)}")


def exports(request: HttpRequest) -> StreamingHttpResponse:
    """Stream rows of one cursor."""

    def rows() -> Iterator[bytes]:
        with connections[ALIAS].cursor() as cursor:
            for number in range(10):
                cursor.execute("SELECT %s", [number])
                time.sleep(0.03)
                yield b"%d" % cursor.fetchone()[0]

    return StreamingHttpResponse(rows())


async def exports_async(request: HttpRequest) -> StreamingHttpResponse:
    """Stream rows of one cursor, whose thread is parked between them."""

    def select(cursor: Any, number: int) -> Any:
        cursor.execute("SELECT %s", [number])
        return cursor.fetchone()[0]

    async def rows() -> AsyncIterator[bytes]:
        cursor = await sync_to_async(lambda: connections[ALIAS].cursor())()
        for number in range(10):
            await asyncio.sleep(0.01)
            yield b"%d" % await sync_to_async(select)(cursor, number)
        await sync_to_async(cursor.close)()

    return StreamingHttpResponse(rows())


def tenant(request: HttpRequest, tenant: str) -> HttpResponse:
    connection: Any = connections[ALIAS]
    connection.tenant = tenant
    return HttpResponse(b"set")


def streams(request: HttpRequest, name: str) -> StreamingHttpResponse:
    tenant(request, name)

    def read() -> bytes:
        query()
        connection: Any = connections[ALIAS]
        return bytes(connection.tenant, "ascii")

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.05)
            yield await sync_to_async(read)()

    return StreamingHttpResponse(parts())


def forgets(request: HttpRequest, make: str) -> HttpResponse:
    """Leave an open cursor in a cycle of a frame and the exception that it has kept."""
    cursor = getattr(connections[ALIAS], make)()
    cursor.execute("SELECT 1")
    try:
        raise ValueError
    except ValueError as error:
        kept = error
    assert kept.__traceback__ is not None
    return HttpResponse(b"%d" % cursor.fetchone()[0])


async def forgets_async(request: HttpRequest, make: str) -> HttpResponse:
    return await sync_to_async(forgets)(request, make)


# psycopg warns of cursors that are garbage; pytest would keep each for its report.
@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("age", [60])
@pytest.mark.parametrize("view", ["forgets", "forgets-async"])
@pytest.mark.parametrize("make", ["cursor", "chunked_cursor"])
@pytest.mark.usefixtures("database")
def test_cursors_that_a_request_forgets_keep_no_connection_from_others(
    pool_with: MakePool, make: str, view: str
) -> None:
    pool = pool_with(4, 1)
    url = f"/{view}/{make}/"

    def collect_all_slowly(phase: str, info: dict[str, int]) -> None:
        # As in a process with millions of objects.
        if phase == "start" and info["generation"] == 2:
            time.sleep(1.5)

    async def main() -> list[list[bytes]]:
        answers: list[list[bytes]] = [[] for _ in range(5)]
        await asyncio.gather(*(get(application, url, to) for to in answers))
        return answers

    gc.disable()
    gc.callbacks.append(collect_all_slowly)
    try:
        with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
            application = ASGIHandler(pool)
            answers = asyncio.run(main())
    finally:
        gc.callbacks.remove(collect_all_slowly)
        gc.enable()

    assert answers == [[b"1"]] * 5


def draw(cursor: Any) -> Iterator[Any]:
    """Yield rows, and close the cursor in the end, as a queryset's iterator does."""
    try:
        yield cursor.fetchone()
        yield cursor.fetchone()
    finally:
        cursor.close()


class Forgotten:
    """A generator that has begun to draw rows, in a cycle: garbage at once."""

    revived: list[Any] = []

    def __init__(self, *, is_revived: bool = False) -> None:
        cursor = connections[ALIAS].chunked_cursor()
        cursor.execute("SELECT generate_series(1, 1000)")
        self.rows = draw(cursor)
        next(self.rows)
        self.itself = self
        self.is_revived = is_revived

    def __del__(self) -> None:
        # As Python has asynchronous generators ended by their loop, somewhat later.
        if self.is_revived:
            self.revived.append(self.rows)


@pytest.fixture
def no_collections() -> Iterator[None]:
    Forgotten.revived.clear()
    gc.disable()
    yield
    gc.enable()


def count_cursors() -> int:
    """Return how many the database keeps, but that of the question."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors WHERE name <> ''")
        number: int = cursor.fetchone()[0]
        return number


@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database", "no_collections")
def test_forgotten_cursor_may_be_collected_in_the_midst_of_anothers_query(
    pool_with: MakePool,
) -> None:
    pool = pool_with(1, 1)

    def forget() -> int:
        Forgotten()
        driver = id(connections[ALIAS].connection)
        end_forgotten_transactions(closes_cursors=True)
        return driver

    def work() -> tuple[int, int, int]:
        number = count_cursors()
        driver = connections[ALIAS].connection
        # Psycopg has it while it waits for the database.
        with driver.lock:
            collected = gc.collect()
        return id(driver), number, collected

    driver = submit(pool, forget).result(60)
    same, number, collected = submit(pool, work).result(60)

    assert (same, number) == (driver, 0)
    assert collected > 0


@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database", "no_collections")
def test_forgotten_cursor_may_be_collected_in_the_midst_of_its_own_requests_query(
    pool_with: MakePool,
) -> None:
    pool = pool_with(1, 1)

    def forget_and_ask() -> int:
        Forgotten()
        driver = connections[ALIAS].connection
        with driver.lock:
            gc.collect()
        return id(driver)

    def work() -> tuple[int, int]:
        number = count_cursors()
        return id(connections[ALIAS].connection), number

    driver = submit(pool, forget_and_ask).result(60)

    assert submit(pool, work).result(60) == (driver, 0)


@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database", "no_collections")
def test_cursor_that_is_ended_late_waits_for_no_other_query(
    pool_with: MakePool,
) -> None:
    pool = pool_with(2, 1)
    lease = make_lease(pool, held=True)

    def forget() -> int:
        Forgotten(is_revived=True)
        gc.collect()
        return id(connections[ALIAS].connection)

    def work() -> tuple[int, bool]:
        connections[ALIAS].ensure_connection()
        driver = connections[ALIAS].connection
        with driver.lock:
            has_lock.set()
            return id(driver), has_ended.wait(20)

    has_lock, has_ended = threading.Event(), threading.Event()
    driver = lease.submit(forget).result(60)
    lease.release()
    working = submit(pool, work)
    assert has_lock.wait(60)
    [rows] = Forgotten.revived
    rows.close()
    has_ended.set()

    assert working.result(60) == (driver, True)
    assert submit(pool, count_cursors).result(60) == 0


@pytest.mark.parametrize(
    ("age", "options"), [(60, {}), (0, POOL_OF_ONE)], ids=["plain", "pool"]
)
@pytest.mark.usefixtures("database", "no_collections")
def test_connection_is_closed_after_a_cursor_that_is_being_closed(
    pool_with: MakePool,
) -> None:
    is_closing, may_close = threading.Event(), threading.Event()

    def forget() -> tuple[bool, bool, bool]:
        def close_slowly() -> None:
            is_closing.set()
            may_close.wait(60)
            was_open.append(not driver.connection.closed)
            close()

        was_open: list[bool] = []
        connection = connections[ALIAS]
        cursor = connection.chunked_cursor()
        cursor.execute("SELECT generate_series(1, 1000)")
        driver, close = cursor.cursor, cursor.cursor.close
        driver.close = close_slowly
        closing = threading.Thread(target=cursor.close)
        del cursor
        closing.start()
        is_closing.wait(60)
        is_in_use = is_connection_in_use(connection)
        threading.Timer(0.2, may_close.set).start()
        connection.close()
        closing.join()
        return is_in_use, *was_open, driver.closed

    assert submit(pool_with(1, 1), forget).result(60) == (True, True, True)


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_drivers_connection_is_not_taken_from_a_job_that_has_asked_for_it(
    pool_with: MakePool,
) -> None:
    pool = pool_with(2, 1)
    begun, asked = threading.Event(), threading.Event()

    def work() -> tuple[bool, Any]:
        connection = connections[ALIAS]
        was_open = connection.connection is not None
        connection.ensure_connection()
        driver = connection.connection
        begun.set()
        asked.wait(60)
        # For as long as others look for a connection to take away.
        time.sleep(0.3)
        return was_open, (
            connection.connection is driver and driver.execute("SELECT 7").fetchone()
        )

    def ask() -> int:
        asked.set()
        return query()

    submit(pool, query).result(60)
    working = submit(pool, work)
    begun.wait(60)
    asking = submit(pool, ask)

    assert working.result(60) == (True, (7,))
    assert asking.result(60) == 1


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_transaction_ends_in_a_view_that_is_over_its_share(pool_with: MakePool) -> None:
    pool = pool_with(10, 4, timeout=5, share=0.5)
    atomics: dict[Lease, Any] = {}

    def begin(lease: Lease) -> None:
        atomics[lease] = transaction.atomic(ALIAS)
        atomics[lease].__enter__()
        query()

    def end(lease: Lease) -> bool:
        atomics[lease].__exit__(None, None, None)
        return connections[ALIAS].autocommit

    def work() -> None:
        query()
        begun.release()
        gate.wait(60)

    begun, gate = threading.Semaphore(0), threading.Event()
    held = [make_lease(pool, "view", "view", held=True) for _ in range(2)]
    for lease in held:
        lease.submit(begin, lease).result(60)
    others = [make_lease(pool, name, name).submit(work) for name in ("one", "two")]
    for _ in others:
        begun.acquire(timeout=60)
    ended = [lease.submit(end, lease).result(60) for lease in held]
    gate.set()
    for lease in held:
        lease.release()
    for other in others:
        other.result(60)

    assert ended == [True, True]


@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("age", [0])
@pytest.mark.parametrize("options", [{"pool": {"min_size": 1, "max_size": 1}}])
@pytest.mark.usefixtures("database")
def test_cursor_of_a_connection_that_is_anothers_by_now_is_let_alone(
    pool_with: MakePool,
) -> None:
    pool = pool_with(2, 1)
    returned, begun, closed = (threading.Event() for _ in range(3))

    def leave() -> Any:
        connection = connections[ALIAS]
        with transaction.atomic(using=ALIAS):
            cursor = connection.chunked_cursor()
            cursor.execute("SELECT generate_series(1, 1000)")
        connection.close()
        returned.set()
        begun.wait(60)
        end_forgotten_transactions(closes_cursors=True)
        closed.set()
        return cursor

    def work() -> Any:
        returned.wait(60)
        with (
            transaction.atomic(using=ALIAS),
            connections[ALIAS].cursor() as cursor,
        ):
            cursor.execute("SELECT 1")
            begun.set()
            closed.wait(60)
            cursor.execute("SELECT 42")
            return cursor.fetchone()

    leaving, working = submit(pool, leave), submit(pool, work)

    assert working.result(60) == (42,)
    assert leaving.result(60)


@pytest.mark.parametrize("age", [0])
@pytest.mark.parametrize(
    ("options", "make"),
    [({}, "cursor"), ({"pool": {"min_size": 1, "max_size": 2}}, "chunked_cursor")],
)
@pytest.mark.usefixtures("database")
def test_cursor_gives_its_rows_after_its_connection_is_closed(
    pool_with: MakePool, make: str
) -> None:
    def read() -> list[Any]:
        connection = connections[ALIAS]
        cursor = getattr(connection, make)()
        cursor.execute("SELECT generate_series(1, 5)")
        rows = [cursor.fetchone()]
        connection.close()
        rows += cursor.fetchall()
        cursor.close()
        return rows

    rows = submit(pool_with(1), read).result(60)

    assert rows == [(number,) for number in range(1, 6)]


urlpatterns = [
    path("forgets/<str:make>/", forgets),
    path("forgets-async/<str:make>/", forgets_async),
    path("once/", asks_once),
    path("streams/<str:name>/", streams),
    path("tenant/<str:tenant>/", tenant),
    path("sync/", asks),
    path("export/", exports),
    path("async/", exports_async),
]


@pytest.mark.usefixtures("database")
def test_async_views_that_wait_hold_no_connection_that_others_need(
    pool_with: MakePool,
) -> None:
    pool = pool_with(6)

    async def main() -> list[list[bytes]]:
        GATE[:] = [asyncio.Event(), asyncio.Event()]
        answers: list[list[bytes]] = [[] for _ in range(40)]
        requests = [
            asyncio.create_task(
                get(application, "/once/" if number % 2 else "/sync/", parts)
            )
            for number, parts in enumerate(answers)
        ]
        await wait_until(lambda: pool.stats().parked == 20)
        GATE[0].set()
        await asyncio.gather(*requests)
        return answers

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        application = ASGIHandler(pool)
        answers = asyncio.run(main())

    assert max(int(b"".join(parts)) for parts in answers) <= MOST


@pytest.mark.parametrize("age", [0])
@pytest.mark.usefixtures("database")
def test_cursors_are_closed_before_their_connection(pool_with: MakePool) -> None:
    def leave_open() -> tuple[bool, bool]:
        with transaction.atomic(using=ALIAS):
            cursor = connections[ALIAS].chunked_cursor()
            cursor.execute("SELECT generate_series(1, 1000)")
            cursor.fetchone()
            was_closed = cursor.cursor.closed
            connections[ALIAS].set_rollback(True)
        connections[ALIAS].close()
        return was_closed, cursor.cursor.closed

    assert submit(pool_with(1), leave_open).result(60) == (False, True)


@pytest.mark.parametrize("age", [60])
@pytest.mark.parametrize("share", [1.0, 0.8])
@pytest.mark.parametrize("path_info", ["/export/", "/async/"])
@pytest.mark.usefixtures("database")
def test_streams_that_hold_all_connections_get_threads_of_those_who_wait(
    pool_with: MakePool, path_info: str, share: float
) -> None:
    pool = pool_with(4, 4, share=share)

    async def main() -> list[list[bytes]]:
        answers: list[list[bytes]] = [[] for _ in range(16)]
        await asyncio.gather(*(get(application, path_info, to) for to in answers))
        return answers

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        application = ASGIHandler(pool)
        answers = asyncio.run(main())

    assert [b"".join(parts) for parts in answers] == [b"0123456789"] * 16


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_requests_of_many_clients_open_as_many_connections_as_are_allowed(
    pool_with: MakePool,
) -> None:
    pool = pool_with(32, share=0.8)

    async def visit() -> None:
        for _ in range(10):
            await get(application, "/sync/", [])

    async def main() -> None:
        await asyncio.gather(*(visit() for _ in range(32)))

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        application = ASGIHandler(pool)
        asyncio.run(main())

    assert Count.opened <= MOST


@pytest.mark.parametrize(
    ("error", "is_refused"),
    [
        (OperationalError(1040, "Too many connections"), True),
        (OperationalError("FATAL:  sorry, too many clients already"), True),
        (OperationalError("FATAL: remaining connection slots are reserved"), True),
        (OperationalError(2003, "no such host"), False),
        (OperationalError(), False),
        (KeyboardInterrupt("too many clients already"), False),
    ],
)
def test_refusals_for_too_many_connections(
    error: BaseException, is_refused: bool
) -> None:
    assert is_refusal(error) == is_refused


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        (None, None),
        (False, None),
        (True, 4),
        ({}, None),
        ({"min_size": 7}, 7),
        ({"min_size": 2, "max_size": 9}, 9),
    ],
)
def test_size_of_the_pool_of_django(pool: Any, size: int | None) -> None:
    assert pool_size({"OPTIONS": {"pool": pool}}) == size
