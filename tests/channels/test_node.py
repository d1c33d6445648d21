"""Several processes: other layers on the same loop, and processes in earnest."""

from __future__ import annotations

import asyncio
import glob
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from djserve.channels import HostChannelLayer, node
from djserve.channels.node import owner_of
from tests.channels.member import ROOT, Process
from tests.support.waiting import settle, wait_until

pytestmark = pytest.mark.e2e

MakeLayer = Callable[..., HostChannelLayer]
StartProcess = Callable[..., Process]


def message(number: int = 0) -> dict[str, Any]:
    return {"type": "said", "number": number}


@pytest.mark.parametrize(
    ("channel", "owner"),
    [("jobs", None), ("specific.abc!x", "abc"), ("a.b.abc!x!", "abc"), ("abc!", "abc")],
)
def test_name_of_a_channel_holds_its_process(channel: str, owner: str | None) -> None:
    assert owner_of(channel) == owner


# Layers on one loop


def test_message_finds_the_process_of_its_channel(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        for number in range(50):
            await here.send(channel, message(number))

        assert [await there.receive(channel) for _ in range(50)] == [
            message(number) for number in range(50)
        ]

    asyncio.run(scenario())


def test_channel_whose_process_has_ended_takes_messages_in_silence(
    make_layer: MakeLayer,
) -> None:
    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await here.send(channel, message())
        await there.close()
        await here.send(channel, message())
        await here.group_add("room", channel)
        await here.group_discard("room", channel)

    asyncio.run(scenario())


def test_group_has_members_in_several_processes(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layers = [make_layer() for _ in range(3)]
        names = [await layer.new_channel() for layer in layers]
        for layer, name in zip(layers, names, strict=True):
            await layer.group_add("room", name)
        await layers[0].group_send("room", message(1))
        for layer, name in zip(layers, names, strict=True):
            assert await layer.receive(name) == message(1)
        await layers[2].group_discard("room", names[2])
        await layers[1].group_send("room", message(2))

        assert await layers[0].receive(names[0]) == message(2)
        assert layers[2].groups == {}

    asyncio.run(scenario())


def test_any_process_adds_and_discards_a_channel(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await here.group_add("room", channel)
        await here.group_send("room", message(1))
        assert await there.receive(channel) == message(1)
        await here.group_discard("room", channel)
        await here.group_send("room", message(2))
        await here.send(channel, message(3))
        assert await there.receive(channel) == message(3)

    asyncio.run(scenario())


def test_group_without_members_in_a_process_costs_it_nothing(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[str] = []
    deliver = node.LayerNode._deliver

    def watch(self: node.LayerNode, frame: Any) -> bool:
        came.append(frame.name)
        return deliver(self, frame)

    monkeypatch.setattr(node.LayerNode, "_deliver", watch)

    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await there.group_add("room", channel)
        await here.group_send("other", message())
        await here.group_send("room", message())
        assert await there.receive(channel) == message()

    asyncio.run(scenario())
    # Both would have come, in their order.
    assert came == ["room"]


def test_sender_hears_that_a_channel_elsewhere_is_full(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        here, there = make_layer(), make_layer(capacity=3)
        channel, other = [await there.new_channel() for _ in range(2)]
        # With a receiver on any channel the process reads what comes.
        receiver = asyncio.create_task(there.receive(other))
        for number in range(3):
            await here.send(channel, message(number))
        await wait_until(
            lambda: (
                channel in there.channels and len(there.channels[channel].messages) == 3
            )
        )
        with pytest.raises(ChannelFull):
            await here.send(channel, message(3))
        assert await there.receive(channel) == message(0)
        await here.send(channel, message(4))
        await here.send(other, message(5))
        assert await receiver == message(5)
        got = [await there.receive(channel) for _ in range(3)]
        assert got == [message(1), message(2), message(4)]

    asyncio.run(scenario())


def test_plain_name_brings_each_message_to_one_receiver(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        sender, *workers = [make_layer() for _ in range(3)]
        got: list[list[int]] = [[], []]

        async def work(layer: HostChannelLayer, numbers: list[int]) -> None:
            while True:
                numbers.append((await layer.receive("jobs"))["number"])

        tasks = [
            asyncio.create_task(work(layer, numbers))
            for layer, numbers in zip(workers, got, strict=True)
        ]
        await settle()
        for number in range(100):
            await sender.send("jobs", message(number))
        await wait_until(lambda: sum(map(len, got)) == 100)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert sorted(got[0] + got[1]) == list(range(100))
        assert all(numbers == sorted(numbers) and numbers for numbers in got)

    asyncio.run(scenario())


def test_message_to_a_plain_name_waits_for_a_receiver(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        sender, worker = make_layer(), make_layer()
        for number in range(3):
            await sender.send("jobs", message(number))
        got = [await worker.receive("jobs") for _ in range(3)]

        assert got == [message(number) for number in range(3)]

    asyncio.run(scenario())


def test_receiver_that_gives_up_leaves_its_messages_to_others(
    make_layer: MakeLayer,
) -> None:
    async def scenario() -> None:
        sender, first, second = [make_layer() for _ in range(3)]
        receiver = asyncio.create_task(first.receive("jobs"))
        await settle()
        await sender.send("jobs", message(1))
        await sender.send("jobs", message(2))
        assert await receiver == message(1)
        again = asyncio.create_task(first.receive("jobs"))
        other = asyncio.create_task(first.receive("jobs"))
        done, _ = await asyncio.wait({again, other}, return_when="FIRST_COMPLETED")
        assert done.pop().result() == message(2)
        for task in (again, other):
            task.cancel()
        await asyncio.gather(again, other, return_exceptions=True)
        await sender.send("jobs", message(3))

        assert await second.receive("jobs") == message(3)

    asyncio.run(scenario())


def test_process_that_ends_hands_its_jobs_over(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        sender, keeper = make_layer(), make_layer()
        idle = asyncio.create_task(keeper.receive(await keeper.new_channel()))
        await settle()
        await sender.send("jobs", message(1))
        await sender.close()
        await wait_until(lambda: "jobs" in keeper.channels)
        worker = make_layer()

        assert await worker.receive("jobs") == message(1)
        idle.cancel()

    asyncio.run(scenario())


def test_plain_name_in_a_group_gets_one_copy(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layers = [make_layer() for _ in range(3)]
        for layer in layers:
            await layer.group_add("all", "jobs")
        await layers[0].group_send("all", message(1))
        assert await layers[1].receive("jobs") == message(1)
        await layers[2].group_discard("all", "jobs")
        await layers[0].group_send("all", message(2))
        await layers[0].send("jobs", message(3))

        assert await layers[1].receive("jobs") == message(3)

    asyncio.run(scenario())


def test_flush_reaches_the_other_processes(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await there.group_add("room", channel)
        waiting = asyncio.create_task(there.receive(channel))
        await settle()
        await here.flush()
        await wait_until(lambda: not there.groups)
        await here.send(channel, message(1))

        assert await waiting == message(1)

    asyncio.run(scenario())


def remove_folder(folder: str) -> None:
    (place,) = os.listdir(folder)
    shutil.rmtree(os.path.join(folder, place))


def remove_register(folder: str) -> None:
    (register,) = glob.glob(f"{folder}/*/*.map")
    os.unlink(register)


@pytest.mark.parametrize("clean", [remove_folder, remove_register])
def test_process_comes_back_to_a_folder_that_was_cleaned(
    make_layer: MakeLayer,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    clean: Callable[[str], None],
) -> None:
    monkeypatch.setattr(node, "_CHECK_FOLDER", 0.0)
    monkeypatch.setattr(node, "_BEAT", 0.01)

    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await there.group_add("room", channel)
        waiting = asyncio.create_task(there.receive(channel))
        await settle()
        clean(folder)
        await wait_until(lambda: len(glob.glob(f"{folder}/*/*")) == 2)
        await here.group_send("room", message(1))

        assert await waiting == message(1)

    asyncio.run(scenario())


def test_process_comes_back_to_its_folder_once_it_can(
    make_layer: MakeLayer,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(node, "_CHECK_FOLDER", 0.0)
    monkeypatch.setattr(node, "_BEAT", 0.01)

    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await there.group_add("room", channel)
        waiting = asyncio.create_task(there.receive(channel))
        await settle()
        (place,) = glob.glob(f"{folder}/*")
        shutil.rmtree(place)
        # Nothing can be made here: the name is taken by a link that leads nowhere.
        os.symlink(f"{folder}/nowhere", place)
        await wait_until(lambda: "cut off from other" in caplog.text)

        # By itself it goes on, with new channels too.
        await there.group_add("room", await there.new_channel())
        await there.group_send("room", message(1))
        assert await waiting == message(1)

        waiting = asyncio.create_task(there.receive(channel))
        await settle()
        os.unlink(place)
        await wait_until(lambda: len(glob.glob(f"{folder}/*/*")) == 2)
        await here.group_send("room", message(2))
        assert await waiting == message(2)
        assert caplog.text.count("Channel layer: cut off from other") == 1

    asyncio.run(scenario())


def test_sender_finds_a_process_that_came_back_while_it_sent_nothing(
    make_layer: MakeLayer, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_CHECK_FOLDER", 0.0)
    monkeypatch.setattr(node, "_BEAT", 0.01)

    async def scenario() -> None:
        here, there = make_layer(), make_layer()
        channel = await there.new_channel()
        await here.send(channel, message(1))
        assert await there.receive(channel) == message(1)
        (place,) = os.listdir(folder)
        shutil.rmtree(os.path.join(folder, place))
        await wait_until(lambda: len(glob.glob(f"{folder}/*/*")) == 2)
        await there.group_add("other-room", channel)
        await here.group_send("other-room", message(2))

        assert await there.receive(channel) == message(2)

    asyncio.run(scenario())


# Processes


@pytest.mark.e2e
def test_processes_share_groups_and_channels(start_process: StartProcess) -> None:
    one, other = start_process(), start_process()
    (first,) = one.call("join", "room", 1)
    (second,) = other.call("join", "room", 1)
    one.call("group_send", "room", message(1))
    other.call("send", first, message(2))

    assert one.call("messages", first, 2) == [message(1), message(2)]
    assert other.call("messages", second, 1) == [message(1)]


@pytest.mark.e2e
def test_killed_process_takes_only_its_own_members(start_process: StartProcess) -> None:
    sender, alive, killed = [start_process() for _ in range(3)]
    (name,) = alive.call("join", "room", 1)
    killed.call("join", "room", 1)
    sender.call("group_send", "room", message(0))
    killed.kill()
    for number in range(1, 20):
        sender.call("group_send", "room", message(number))

    assert alive.call("messages", name, 20) == [message(n) for n in range(20)]


@pytest.mark.e2e
def test_stopped_process_slows_nobody_and_goes_on(start_process: StartProcess) -> None:
    sender, alive, stopped = [start_process(capacity=5000) for _ in range(3)]
    (name,) = alive.call("join", "room", 1)
    (late,) = stopped.call("join", "room", 1)
    stopped.signal(signal.SIGSTOP)
    long = {"type": "said", "text": "x" * 16384}
    for _ in range(100):
        sender.call("group_send", "room", long)
    assert len(alive.call("messages", name, 100)) == 100
    stopped.signal(signal.SIGCONT)

    # Far less than the limit was kept for it, and more than the kernel holds.
    assert len(stopped.call("messages", late, 100)) == 100


@pytest.mark.e2e
def test_rolled_processes_lose_no_message_to_living_members(
    start_process: StartProcess,
) -> None:
    sender, old = start_process(), start_process()
    (name,) = old.call("join", "room", 1)
    sent = 0
    for _ in range(2):
        sender.call("group_send", "room", message(sent))
        new = start_process()
        (newer,) = new.call("join", "room", 1)
        # The member is in the group: it gets the very next message.
        sender.call("group_send", "room", message(sent + 1))
        assert new.call("messages", newer, 1) == [message(sent + 1)]
        assert old.call("messages", name, 2)[-2:] == [message(sent), message(sent + 1)]
        old.stop()
        old, name, sent = new, newer, sent + 2


@pytest.mark.e2e
def test_command_that_ends_at_once_leaves_its_job(
    start_process: StartProcess, folder: str
) -> None:
    keeper = start_process()
    keeper.call("join", "room", 1)
    program = (
        "import sys\n"
        "from asgiref.sync import async_to_sync\n"
        "from django.conf import settings\n"
        "settings.configure(DATABASES={}, SECRET_KEY='x')\n"
        "from djserve.channels import HostChannelLayer\n"
        "layer = HostChannelLayer(folder=sys.argv[1])\n"
        "async_to_sync(layer.send)('jobs', {'type': 'said', 'number': 7})\n"
    )
    subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, check=True)
    worker = start_process()
    worker.call("collect", "jobs")

    assert worker.call("messages", "jobs", 1) == [message(7)]


@pytest.mark.e2e
def test_ended_process_leaves_no_file(start_process: StartProcess, folder: str) -> None:
    ended, killed = start_process(), start_process()
    for process in (ended, killed):
        process.call("join", "room", 1)
    ended.stop()
    (place,) = Path(folder).iterdir()
    assert len(os.listdir(place)) == 2
    killed.kill()
    other = start_process()
    other.call("new_channel")

    # What a killed one left goes with the next that comes.
    assert len(os.listdir(place)) == 2
