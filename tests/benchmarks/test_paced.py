"""The open-loop load, against a server of a few lines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.paced import Work, run_paced
from benchmarks.processes import BenchmarkError

pytestmark = pytest.mark.e2e

Serve = Callable[[bytes], int]
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give ``serve(answer)``: a port where each request gets it, after 10 ms.

    One for /last gets it only after four for /endless have come.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers: list[asyncio.Server] = []

    def start(answer: bytes) -> int:
        endless = asyncio.Semaphore(0)

        async def converse(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            while line := await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.01)
                if b" /endless " in line:
                    endless.release()
                if b" /last " in line:
                    for _ in range(4):
                        await endless.acquire()
                writer.write(answer)
            writer.close()

        starting = asyncio.start_server(converse, "127.0.0.1", 0)
        servers.append(asyncio.run_coroutine_threadsafe(starting, loop).result(30))
        port: int = servers[-1].sockets[0].getsockname()[1]
        return port

    async def stop() -> None:
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    yield start
    asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_every_request_that_was_due_is_measured(serve: Serve) -> None:
    work = Work("hello", "/", connections=2, rate=50)
    run_paced(serve(ANSWER), [work], 0.2)

    assert len(work.latencies) == 10


def test_request_waits_from_when_it_was_due(serve: Serve) -> None:
    work = Work("hello", "/", connections=1, rate=1000)
    run_paced(serve(ANSWER), [work], 0.02)

    # 20 that are due within 20 ms take 10 ms each, one after the other.
    assert work.latencies[-1] > 0.15


def test_work_without_a_rate_goes_on_as_it_is_answered(serve: Serve) -> None:
    endless = Work("endless", "/endless", connections=2)
    paced = Work("paced", "/last", connections=1, rate=10)
    run_paced(serve(ANSWER), [endless, paced], 0.3)

    # A connection sends again when it has an answer.
    assert len(endless.latencies) >= 2
    assert len(paced.latencies) == 3


def test_answer_that_is_an_error_fails_the_measurement(serve: Serve) -> None:
    port = serve(ANSWER.replace(b"200 OK", b"503 No"))
    with pytest.raises(BenchmarkError, match="503"):
        run_paced(port, [Work("hello", "/", connections=1, rate=50)], 0.1)


def test_percentiles_are_of_the_ordered_latencies() -> None:
    work = Work("hello", "/", 1, latencies=[float(n) for n in range(100, 0, -1)])

    assert (work.percentile(0.5), work.percentile(0.99)) == (51.0, 100.0)
