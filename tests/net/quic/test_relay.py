"""Datagrams between workers: names, addresses, workers that retire or were killed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.net.quic.relay import NAME_LENGTH, Relay
from tests.support.waiting import settle, wait_until

pytestmark = pytest.mark.e2e

SERVER = "127.0.0.1:443"
CLIENT = ("1.2.3.4", 65535)


class Worker:
    def __init__(self, folder: Path) -> None:
        self.received: list[tuple[str, bytes, Any]] = []
        self.relay = Relay(
            asyncio.get_running_loop(),
            str(folder),
            lambda *given: self.received.append(given),
        )


def run(talk: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(300):
            await talk()

    asyncio.run(limited())


async def hand_on(
    folder: Path, sent: list[tuple[str, bytes, Any]]
) -> tuple[Worker, Worker]:
    """Hand datagrams on from one worker to another, which gets them as they are."""
    one, other = Worker(folder), Worker(folder)
    for each in sent:
        assert one.relay.forward(other.relay.name, *each)
    one.relay.flush()
    await wait_until(lambda: len(other.received) == len(sent))
    assert other.received == sent
    return one, other


def test_datagrams_come_with_their_addresses(tmp_path: Path) -> None:
    sent = [
        (SERVER, b"data\n" * 300, CLIENT),
        ("[::1]:443", b"", ("::1", 443, 5, 6)),
        *[(SERVER, bytes([number]) * 1200, CLIENT) for number in range(100)],
    ]

    async def talk() -> None:
        one, other = await hand_on(tmp_path, sent)
        assert not one.received
        for worker in (one, other):
            worker.relay.close()
            worker.relay.close()

    run(talk)
    assert list(tmp_path.iterdir()) == []


def test_whole_messages_have_room_where_the_system_gives_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(socket.socket):
        """As macOS makes it: a datagram may have 2048 bytes by default."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)

    monkeypatch.setattr("djserve.net.quic.relay.socket.socket", Small)
    sent = [(SERVER, bytes([number]) * 1200, CLIENT) for number in range(40)]

    async def talk() -> None:
        for worker in await hand_on(tmp_path, sent):
            worker.relay.close()

    run(talk)


def test_names_that_stand_for_no_other_worker(tmp_path: Path) -> None:
    async def talk() -> None:
        one, other = Worker(tmp_path), Worker(tmp_path)
        name = other.relay.name
        assert len(name) == NAME_LENGTH
        assert not one.relay.forward(one.relay.name, SERVER, b"data", CLIENT)
        other.relay.close()
        assert not one.relay.forward(name, SERVER, b"data", CLIENT)
        one.relay.close()

    run(talk)


def test_beginnings_go_to_workers_that_take_them(tmp_path: Path) -> None:
    async def talk() -> None:
        one, retired, other = (Worker(tmp_path) for _ in range(3))
        for worker in (one, retired):
            worker.relay.retire()
            worker.relay.retire()
        one.relay.forward_new(SERVER, b"begin", CLIENT)
        # What belongs to a connection is still taken.
        assert one.relay.forward(retired.relay.name, SERVER, b"data", CLIENT)
        one.relay.flush()
        await wait_until(lambda: other.received and retired.received)
        assert other.received == [(SERVER, b"begin", CLIENT)]
        assert retired.received == [(SERVER, b"data", CLIENT)]
        other.relay.retire()
        one.relay.forward_new(SERVER, b"begin", CLIENT)
        one.relay.flush()
        await settle()
        assert len(other.received) == len(retired.received) == 1
        for worker in (one, retired, other):
            worker.relay.close()

    run(talk)
    assert list(tmp_path.iterdir()) == []


def test_killed_worker_is_left_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(tmp_path / "0708"))

    async def talk() -> None:
        one = Worker(tmp_path)
        # Lost, as what was on its way to it was.
        assert one.relay.forward(b"\x07\x08", SERVER, b"data", CLIENT)
        one.relay.flush()
        assert not one.relay.forward(b"\x07\x08", SERVER, b"data", CLIENT)
        other = Worker(tmp_path)
        one.relay.forward_new(SERVER, b"begin", CLIENT)
        one.relay.flush()
        await wait_until(lambda: other.received)
        one.relay.close()
        other.relay.close()

    run(talk)


def test_name_in_use_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"aa", b"aa", b"bb", b"bb", b"cc"]
    monkeypatch.setattr(os, "urandom", lambda count: names.pop(0))

    async def talk() -> None:
        one, other = Worker(tmp_path), Worker(tmp_path)
        other.relay.retire()
        third = Worker(tmp_path)
        assert [each.relay.name for each in (one, other, third)] == [
            *(b"aa", b"bb", b"cc")
        ]
        for worker in (one, other, third):
            worker.relay.close()

    run(talk)


def test_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    async def talk() -> None:
        with pytest.raises(OSError, match="No such file"):
            Worker(tmp_path / "missing")

    run(talk)
