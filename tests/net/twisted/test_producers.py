from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from djserve.net.twisted.producers import ProducerAdapter


class Producer:
    def __init__(self, on_resume: Callable[[], None] = lambda: None) -> None:
        self.calls: list[str] = []
        self._on_resume = on_resume

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self._on_resume()

    def stopProducing(self) -> None:
        self.calls.append("stop")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def adapter(loop: asyncio.AbstractEventLoop) -> ProducerAdapter:
    return ProducerAdapter(loop)


def turn(loop: Any, times: int = 1) -> None:
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_push_producer_is_told_of_full_and_free(adapter: ProducerAdapter) -> None:
    producer = Producer()
    adapter.register(producer, True)

    adapter.pause()
    adapter.resume()

    assert producer.calls == ["pause", "resume"]
    assert (adapter.producer, adapter.streaming) == (producer, True)


def test_end_waits_for_a_producer_that_pulls_or_is_paused(
    adapter: ProducerAdapter,
) -> None:
    seen = [adapter.is_awaited]
    adapter.register(Producer(), True)
    seen.append(adapter.is_awaited)
    adapter.pause()
    seen.append(adapter.is_awaited)
    adapter.resume()
    seen.append(adapter.is_awaited)
    adapter.unregister()
    adapter.register(Producer(), False)
    seen.append(adapter.is_awaited)

    assert seen == [False, False, True, False, True]


def test_pull_producer_is_asked_once_a_turn(
    adapter: ProducerAdapter, loop: asyncio.AbstractEventLoop
) -> None:
    producer = Producer()
    adapter.register(producer, False)
    assert producer.calls == ["resume"]

    turn(loop, 3)

    assert producer.calls == ["resume"] * 4


def test_pull_producer_is_not_asked_while_full(
    adapter: ProducerAdapter, loop: asyncio.AbstractEventLoop
) -> None:
    producer = Producer(adapter.pause)
    adapter.register(producer, False)
    turn(loop, 3)
    assert producer.calls == ["resume"]

    adapter.resume()
    adapter.resume()
    turn(loop)

    assert producer.calls == ["resume", "resume"]


def test_pull_producer_may_end_in_its_first_call(
    adapter: ProducerAdapter, loop: asyncio.AbstractEventLoop
) -> None:
    producer = Producer(adapter.unregister)
    adapter.register(producer, False)

    turn(loop, 3)

    assert producer.calls == ["resume"]
    assert adapter.producer is None


@pytest.mark.parametrize("streaming", [True, False])
def test_end_of_the_connection_stops_the_producer(
    adapter: ProducerAdapter, loop: asyncio.AbstractEventLoop, streaming: bool
) -> None:
    producer = Producer()
    adapter.register(producer, streaming)

    adapter.stop()
    adapter.stop()
    adapter.pause()
    adapter.resume()
    turn(loop, 2)

    assert producer.calls[-1] == "stop"
    assert producer.calls.count("stop") == 1


def test_second_producer_is_refused(adapter: ProducerAdapter) -> None:
    adapter.register(Producer(), True)

    with pytest.raises(RuntimeError, match="is registered"):
        adapter.register(Producer(), True)


def test_producer_that_comes_when_full_is_paused(adapter: ProducerAdapter) -> None:
    adapter.pause()
    producer = Producer()

    adapter.register(producer, True)

    assert producer.calls == ["pause"]
