from __future__ import annotations

import asyncio
import threading

from djserve.channels.queues import Queue, Queues
from tests.support.waiting import settle


def test_messages_are_taken_in_order_and_not_once_they_have_expired() -> None:
    queue = Queue(capacity=10)
    for expires, data in ((1.0, b"old"), (3.0, b"first"), (4.0, b"second")):
        queue.put(expires, data, now=0.0)

    assert [queue.take(2.0) for _ in range(3)] == [b"first", b"second", None]


def test_full_queue_takes_no_more_unless_something_has_expired() -> None:
    queue = Queue(capacity=2)
    assert queue.put(1.0, b"a", now=0.0)
    assert queue.put(9.0, b"b", now=0.0)
    assert not queue.put(9.0, b"c", now=0.0)
    assert queue.put(9.0, b"c", now=1.0)
    assert [queue.take(2.0), queue.take(2.0)] == [b"b", b"c"]


def test_each_message_wakes_one_receiver() -> None:
    async def scenario() -> None:
        queue = Queue(capacity=10)
        waiters = [queue.wait(asyncio.get_running_loop()) for _ in range(3)]
        for _ in range(2):
            queue.put(1.0, b"", now=0.0)

        assert [waiter.done() for waiter in waiters] == [True, True, False]

    asyncio.run(scenario())


def test_receiver_that_gives_up_after_it_was_woken_wakes_the_next() -> None:
    async def scenario() -> None:
        queue = Queue(capacity=10)
        first, second = (queue.wait(asyncio.get_running_loop()) for _ in range(2))
        queue.put(1.0, b"", now=0.0)
        queue.forget(first)

        assert second.done()

    asyncio.run(scenario())


def test_receiver_that_gives_up_before_is_passed_over() -> None:
    async def scenario() -> None:
        queue = Queue(capacity=10)
        first, second = (queue.wait(asyncio.get_running_loop()) for _ in range(2))
        queue.forget(first)
        queue.put(1.0, b"", now=0.0)

        assert second.done() and not first.done()

    asyncio.run(scenario())


def test_receiver_of_another_thread_is_woken_on_its_loop() -> None:
    async def scenario() -> None:
        queue = Queue(capacity=10)
        waiter = queue.wait(asyncio.get_running_loop())
        thread = threading.Thread(target=queue.put, args=(1.0, b"", 0.0))
        thread.start()
        thread.join()
        await settle()

        assert waiter.done()

    asyncio.run(scenario())


def test_receiver_on_a_closed_loop_is_passed_over() -> None:
    async def scenario() -> None:
        queue, closed = Queue(capacity=10), asyncio.new_event_loop()
        queue.wait(closed)
        closed.close()
        waiter = queue.wait(asyncio.get_running_loop())
        queue.put(1.0, b"", now=0.0)

        assert waiter.done()

    asyncio.run(scenario())


def test_sweep_names_the_queues_that_it_empties_or_makes_room_in() -> None:
    queues = Queues(a=Queue(1), b=Queue(2), c=Queue(2))
    queues["a"].put(1.0, b"", now=0.0)
    for expires in (1.0, 9.0):
        queues["b"].put(expires, b"", now=0.0)
        queues["c"].put(9.0, b"", now=0.0)
    queues["b"].is_shown_full = queues["c"].is_shown_full = True

    assert list(queues.sweep(2.0)) == ["a", "b"]
    assert queues["a"].is_idle
