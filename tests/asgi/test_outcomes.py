"""Which exceptions say that the client has gone, and which are not ours to answer."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from djserve.asgi.outcomes import ends_the_loop, is_disconnect, is_real_interrupt
from djserve.errors import ClientDisconnected


class Gone(Exception):
    """A framework's own word for it."""


def send() -> None:
    raise ClientDisconnected


def plain() -> None:
    send()


def named() -> None:
    try:
        send()
    except OSError as error:
        raise ValueError("gone") from error


def converted() -> None:
    try:
        send()
    except OSError:
        raise Gone  # noqa: B904 - as Starlette does


def converted_twice() -> None:
    try:
        converted()
    except Gone:
        raise RuntimeError("No response returned.")  # noqa: B904


@contextmanager
def converting() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise Gone  # noqa: B904 - as Starlette does


def converted_by_a_context() -> None:
    with converting():
        send()


def grouped() -> None:
    try:
        converted()
    except Gone as error:
        raise ExceptionGroup("unhandled", [error, ClientDisconnected()])  # noqa: B904


def failing() -> None:
    raise ValueError("the database is away")


def fails_in_clean_up() -> None:
    try:
        send()
    finally:
        failing()


def mistaken() -> None:
    try:
        send()
    except OSError:
        [][0]


def hidden() -> None:
    try:
        send()
    except OSError:
        pass
    failing()


def grouped_with_a_fault() -> None:
    raise ExceptionGroup("unhandled", [ClientDisconnected(), ValueError()])


def caught(action: Callable[[], None]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "action",
    [plain, named, converted, converted_twice, converted_by_a_context, grouped],
)
def test_leaving_of_the_client_is_found(action: Callable[[], None]) -> None:
    assert is_disconnect(caught(action))


@pytest.mark.parametrize(
    "action", [failing, fails_in_clean_up, mistaken, hidden, grouped_with_a_fault]
)
def test_fault_beside_a_disconnect_is_a_fault(action: Callable[[], None]) -> None:
    assert not is_disconnect(caught(action))


def test_circle_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert not is_disconnect(first)


def test_coroutine_that_is_closed_from_outside_is_not_the_applications() -> None:
    async def run() -> tuple[bool, bool, bool]:
        own = asyncio.current_task()
        other = asyncio.ensure_future(asyncio.sleep(0))
        error = GeneratorExit()
        verdicts = [ends_the_loop(error, task) for task in (own, None, other)]
        await other
        return verdicts[0], verdicts[1], verdicts[2]

    assert asyncio.run(run()) == (False, False, True)


def test_interrupt_is_real_in_the_main_thread_without_a_handler() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    elsewhere: list[bool] = []
    try:
        assert is_real_interrupt()
        assert ends_the_loop(KeyboardInterrupt(), None)
        thread = threading.Thread(target=lambda: elsewhere.append(is_real_interrupt()))
        thread.start()
        thread.join()
        signal.signal(signal.SIGINT, lambda *args: None)
        assert not is_real_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)

    assert elsewhere == [False]
