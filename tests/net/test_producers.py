from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from djserve.net.producers import Brake


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
def brake(loop: asyncio.AbstractEventLoop) -> Brake:
    return Brake(loop)


def turn(loop: Any, times: int = 1) -> None:
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_push_producer_is_told_of_full_and_free(brake: Brake) -> None:
    producer = Producer()
    brake.register(producer, True)

    brake.pause()
    brake.resume()

    assert producer.calls == ["pause", "resume"]
    assert (brake.producer, brake.streaming) == (producer, True)


def test_end_waits_for_a_producer_that_pulls_or_is_paused(brake: Brake) -> None:
    seen = [brake.is_awaited]
    brake.register(Producer(), True)
    seen.append(brake.is_awaited)
    brake.pause()
    seen.append(brake.is_awaited)
    brake.resume()
    seen.append(brake.is_awaited)
    brake.unregister()
    brake.register(Producer(), False)
    seen.append(brake.is_awaited)

    assert seen == [False, False, True, False, True]


def test_pull_producer_is_asked_once_a_turn(
    brake: Brake, loop: asyncio.AbstractEventLoop
) -> None:
    producer = Producer()
    brake.register(producer, False)
    assert producer.calls == ["resume"]

    turn(loop, 3)

    assert producer.calls == ["resume"] * 4


def test_pull_producer_is_not_asked_while_full(
    brake: Brake, loop: asyncio.AbstractEventLoop
) -> None:
    producer = Producer(brake.pause)
    brake.register(producer, False)
    turn(loop, 3)
    assert producer.calls == ["resume"]

    brake.resume()
    brake.resume()
    turn(loop)

    assert producer.calls == ["resume", "resume"]


def test_pull_producer_may_end_in_its_first_call(
    brake: Brake, loop: asyncio.AbstractEventLoop
) -> None:
    producer = Producer(brake.unregister)
    brake.register(producer, False)

    turn(loop, 3)

    assert producer.calls == ["resume"]
    assert brake.producer is None


@pytest.mark.parametrize("streaming", [True, False])
def test_end_of_the_connection_stops_the_producer(
    brake: Brake, loop: asyncio.AbstractEventLoop, streaming: bool
) -> None:
    producer = Producer()
    brake.register(producer, streaming)

    brake.stop()
    brake.stop()
    brake.pause()
    brake.resume()
    turn(loop, 2)

    assert producer.calls[-1] == "stop"
    assert producer.calls.count("stop") == 1


def test_second_producer_is_refused(brake: Brake) -> None:
    brake.register(Producer(), True)

    with pytest.raises(RuntimeError, match="is registered"):
        brake.register(Producer(), True)


def test_producer_that_comes_when_full_is_paused(brake: Brake) -> None:
    brake.pause()
    producer = Producer()

    brake.register(producer, True)

    assert producer.calls == ["pause"]
