"""A thread that rows are fetched through stays with who fetches them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.testing import WebsocketCommunicator
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from djserve.handlers import parallel_consumers
from djserve.handlers.cursors import (
    SWEEP,
    OpenCursors,
    close_unused_connections,
    is_database_in_use,
    reset_debugging,
    track_cursors,
)
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.threads.pool import ThreadPool
from tests.support.postgresql import running_postgresql
from tests.support.waiting import wait_until

# Untyped: the types of asgiref know no functions with overloads.
hop: Any = sync_to_async

ALIAS = "streamed"
ROWS = 50
GATE: list[asyncio.Event] = []
"""What a stream waits for after its first rows, where there is anything."""


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)],
)
def schema(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: Any,
) -> Iterator[None]:
    """Add a database with rows."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            options = stack.enter_context(running_postgresql())
        else:
            name = str(tmp_path_factory.mktemp("streamed") / "db.sqlite3")
            options = {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
        defaults = {**connections.settings["default"], "OPTIONS": {}}
        connections.settings[ALIAS] = {**defaults, **options}
        rows = [ContentType(model=f"row{number}") for number in range(ROWS)]
        with django_db_blocker.unblock():
            with connections[ALIAS].schema_editor() as editor:
                editor.create_model(ContentType)
            ContentType.objects.using(ALIAS).bulk_create(rows)
            connections[ALIAS].close()
        yield
        del connections[ALIAS]
        del connections.settings[ALIAS]


@pytest.fixture
def age() -> int | None:
    return 0


@pytest.fixture
def database(age: int | None, schema: None, django_db_blocker: Any) -> Iterator[str]:
    """Give the alias of the database, whose connections are kept for ``age``."""
    connections.settings[ALIAS]["CONN_MAX_AGE"] = age
    del connections[ALIAS]
    with django_db_blocker.unblock():
        yield ALIAS
        connections[ALIAS].close()


def all_rows() -> Any:
    return ContentType.objects.using(ALIAS).order_by("id")


async def by_iterator() -> AsyncIterator[str]:
    async for row in all_rows().aiterator(chunk_size=10):
        yield f"{row.model}\n"
        if GATE:
            await GATE[0].wait()


async def by_generator() -> AsyncIterator[str]:
    """Draw from a synchronous generator, one row for each hop."""
    rows = all_rows().values_list("model").iterator(chunk_size=5)
    while row := await hop(next)(rows, None):
        yield f"{row[0]}\n"
        if GATE:
            await GATE[0].wait()


def fetch_rows() -> Iterator[str]:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT model FROM django_content_type ORDER BY id")
        while row := cursor.fetchone():
            yield row[0]


async def by_cursor() -> AsyncIterator[str]:
    rows = fetch_rows()
    while (name := await hop(next)(rows, None)) is not None:
        yield f"{name}\n"
        if GATE:
            await GATE[0].wait()


async def in_transaction() -> AsyncIterator[str]:
    """Open a transaction in one hop, and read within it in others."""
    atomic = transaction.atomic(using=ALIAS)
    await sync_to_async(atomic.__enter__)()
    for number in range(ROWS):
        yield f"{(await all_rows().aget(model=f'row{number}')).model}\n"
        if GATE:
            await GATE[0].wait()
    assert await sync_to_async(lambda: connections[ALIAS].in_atomic_block)()
    await sync_to_async(atomic.__exit__)(None, None, None)


SOURCES: dict[str, Callable[[], AsyncIterator[str]]] = {
    function.__name__: function
    for function in (by_iterator, by_generator, by_cursor, in_transaction)
}


async def stream_async(request: HttpRequest, source: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(SOURCES[source]())


async def stream_after_query(request: HttpRequest, source: str) -> Any:
    await all_rows().afirst()
    return StreamingHttpResponse(SOURCES[source]())


def stream_sync(request: HttpRequest, source: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(SOURCES[source]())


async def one_query_then_events() -> AsyncIterator[str]:
    yield str(await all_rows().acount())
    await GATE[0].wait()


async def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(one_query_then_events())


async def first_row_of_many() -> AsyncIterator[str]:
    rows = all_rows().aiterator(chunk_size=5)
    yield (await anext(rows)).model
    await GATE[0].wait()


async def leave_rows(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(first_row_of_many())


def forget_to_end() -> None:
    transaction.atomic(using=ALIAS).__enter__()
    ContentType.objects.using(ALIAS).create(model="never committed")


def forgets(request: HttpRequest) -> HttpResponse:
    forget_to_end()
    return HttpResponse()


async def forgets_async(request: HttpRequest) -> HttpResponse:
    await sync_to_async(forget_to_end)()
    return HttpResponse()


def forgets_in_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        forget_to_end()
        yield "forgotten"

    return StreamingHttpResponse(parts())


def count_rows() -> str:
    with transaction.atomic(using=ALIAS):
        label = str(all_rows().count())
        ContentType.objects.using(ALIAS).create(app_label=label, model="committed")
    return f"{connections[ALIAS].in_atomic_block} {all_rows().count()}"


def count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(count_rows())


async def count_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await sync_to_async(count_rows)())


VIEWS: dict[str, Any] = {
    "async": stream_async,
    "after-query": stream_after_query,
    "sync": stream_sync,
}
urlpatterns = [
    *(path(f"{name}/<str:source>/", view) for name, view in VIEWS.items()),
    path("events/", events),
    path("leave-rows/", leave_rows),
    path("forgets/", forgets),
    path("forgets-async/", forgets_async),
    path("forgets-in-stream/", forgets_in_stream),
    path("count/", count),
    path("count-async/", count_async),
]


async def get(application: Any, url: str, parts: list[bytes]) -> None:
    """Make a request; ``parts`` gets the content of a response, which must be 200."""
    content = [{"type": "http.request", "body": b""}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if content:
            return content.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            statuses.append(message["status"])
        elif message.get("body"):
            parts.append(message["body"])

    scope = {
        "type": "http",
        "method": "GET",
        "path": url,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }
    await application(scope, receive, send)
    assert statuses == [200]


@pytest.fixture
def application(pool: ThreadPool) -> Iterator[ASGIHandler]:
    GATE.clear()
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[], DEBUG=False):
        yield ASGIHandler(pool)


AGES = pytest.mark.parametrize("age", [0, 60, None])
NAMES = [f"row{number}" for number in range(ROWS)]


@AGES
@pytest.mark.usefixtures("database")
def test_stream_that_reads_the_database_is_whole(
    application: ASGIHandler, pool: ThreadPool
) -> None:
    async def read(url: str) -> list[str]:
        parts: list[bytes] = []
        await get(application, url, parts)
        return b"".join(parts).decode().split()

    async def main() -> dict[str, list[str]]:
        urls = [f"/{view}/{source}/" for view in VIEWS for source in SOURCES]
        contents = await asyncio.gather(*map(read, urls))
        await wait_until(lambda: not pool.stats().parked)
        return dict(zip(urls, contents, strict=True))

    for url, content in asyncio.run(main()).items():
        assert (url, content) == (url, NAMES)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("source", SOURCES)
def test_thread_is_kept_while_rows_are_fetched_and_no_longer(
    application: ASGIHandler, pool: ThreadPool, source: str
) -> None:
    async def main() -> tuple[int, int]:
        GATE[:] = [asyncio.Event()]
        parts: list[bytes] = []
        request = asyncio.create_task(get(application, f"/async/{source}/", parts))
        await wait_until(lambda: parts and not pool.stats().running)
        parked = pool.stats().parked
        GATE[0].set()
        await request
        await wait_until(lambda: not pool.stats().running)
        return parked, pool.stats().parked

    assert asyncio.run(main()) == (1, 0)


@pytest.mark.usefixtures("database")
def test_stream_that_has_all_its_rows_keeps_no_thread(
    application: ASGIHandler, pool: ThreadPool
) -> None:
    async def main() -> None:
        GATE[:] = [asyncio.Event()]
        streams: list[list[bytes]] = [[] for _ in range(8)]
        requests = [
            asyncio.create_task(get(application, "/events/", parts))
            for parts in streams
        ]
        await wait_until(lambda: all(streams))
        await wait_until(lambda: not (pool.stats().running or pool.stats().parked))
        GATE[0].set()
        await asyncio.gather(*requests)

    asyncio.run(main())


@pytest.mark.parametrize("age", [60])
@pytest.mark.usefixtures("database")
def test_client_that_leaves_frees_the_thread(
    application: ASGIHandler, pool: ThreadPool
) -> None:
    async def main() -> None:
        GATE[:] = [asyncio.Event()]
        parts: list[bytes] = []
        request = asyncio.create_task(get(application, "/leave-rows/", parts))
        await wait_until(lambda: parts and pool.stats().parked)
        request.cancel()
        await asyncio.wait([request])
        await wait_until(lambda: not pool.stats().parked)

    asyncio.run(main())


@AGES
@pytest.mark.parametrize("url", ["/forgets/", "/forgets-async/", "/forgets-in-stream/"])
def test_transaction_that_a_request_leaves_open_is_no_other_requests(
    url: str,
    application: ASGIHandler,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask(url: str) -> str:
        parts: list[bytes] = []
        await get(application, url, parts)
        return b"".join(parts).decode()

    async def main() -> list[str]:
        await ask(url)
        return [await ask("/count/"), await ask("/count-async/")]

    try:
        counts = asyncio.run(main())
    finally:
        rows: Any = ContentType.objects.using(ALIAS).filter(model="committed")
        # Without the tables that refer to this one, which are not there.
        rows._raw_delete(ALIAS)

    assert counts == [f"False {ROWS + 1}", f"False {ROWS + 2}"]
    assert [
        record.args for record in caplog.records if record.name == "djserve.handlers"
    ] == [(ALIAS,)]


class Export(AsyncWebsocketConsumer):
    async def receive(
        self, text_data: str | None = None, bytes_data: Any = None
    ) -> None:
        assert text_data is not None
        async for line in SOURCES[text_data]():
            await self.send(text_data=line)


@AGES
@pytest.mark.usefixtures("database")
def test_consumer_gets_all_rows(pool: ThreadPool) -> None:
    GATE.clear()
    application = parallel_consumers(Export.as_asgi(), pool)

    async def converse(source: str) -> list[str]:
        socket = WebsocketCommunicator(application, "/")
        await socket.connect(timeout=60)
        await socket.send_to(text_data=source)
        lines = [await socket.receive_from(timeout=60) for _ in NAMES]
        await socket.disconnect(timeout=60)
        return [line.strip() for line in lines]

    async def main() -> list[list[str]]:
        return await asyncio.gather(*map(converse, SOURCES))

    assert asyncio.run(main()) == [NAMES] * len(SOURCES)


def test_cursor_counts_while_it_is_open(database: str) -> None:
    track_cursors()
    connection = connections[database]
    cursor = connection.cursor()

    in_use = [is_database_in_use()]
    close_unused_connections()
    in_use.append(connection.connection is not None)
    del cursor
    in_use.append(is_database_in_use())
    close_unused_connections()

    assert [*in_use, connection.connection is None] == [True, True, False, True]


def test_references_to_closed_cursors_do_not_pile_up(database: str) -> None:
    track_cursors()
    connection: Any = connections[database]
    for _ in range(10 * SWEEP):
        connection.cursor().execute("SELECT 1")

    cursors = connection._prepare_cursor
    assert isinstance(cursors, OpenCursors)
    assert len(cursors._cursors) <= SWEEP


def test_connections_that_a_project_drops_are_not_kept(database: str) -> None:
    track_cursors()
    dropped = []
    for _ in range(3):
        connection = connections[database]
        connection.ensure_connection()
        connection.close()
        dropped.append(weakref.ref(connection))
        del connection, connections[database]
        gc.collect()

    assert [reference() for reference in dropped] == [None] * 3


def test_open_transaction_is_seen(database: str) -> None:
    before = is_database_in_use()
    with transaction.atomic(using=database):
        within = is_database_in_use()
        connections[database].ensure_connection()

    assert (before, within, is_database_in_use()) == (False, True, False)


def test_queries_that_were_recorded_are_not_left_for_the_next(database: str) -> None:
    track_cursors()
    connection = connections[database]
    connection.force_debug_cursor = True
    ContentType.objects.using(database).filter(model="of one user").exists()
    assert "of one user" in connection.queries[0]["sql"]

    reset_debugging()

    assert not connection.force_debug_cursor
    assert connection.queries == []
