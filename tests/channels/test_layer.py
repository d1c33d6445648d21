"""The layer within one process, on one loop or several."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import channel_layers, get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from djserve.channels import HostChannelLayer
from tests.channels.member import ROOT
from tests.support.waiting import settle, wait_until

pytestmark = pytest.mark.e2e

MakeLayer = Callable[..., HostChannelLayer]


def message(number: int = 0) -> dict[str, Any]:
    return {"type": "said", "number": number}


@pytest.mark.parametrize(
    "value",
    [
        {"type": "a.b", "text": "Ahoy", "bytes": b"\0\xff", "none": None},
        {"type": "a", "numbers": [1, -(2**63), 2**64 - 1, 0.5], "flags": [True, False]},
        {"type": "a", "nested": {"list": [[], {}], 1: "number as key"}},
        {"type": "a", "half a character": "\ud83d"},
        {"type": "a", "long": "x" * 1_000_000},
        ["any", "value"],
        "text",
        None,
    ],
    ids=lambda value: str(value)[:20],
)
def test_message_arrives_as_it_was(make_layer: MakeLayer, value: Any) -> None:
    async def scenario() -> None:
        layer = make_layer()
        channel = await layer.new_channel()
        await layer.send(channel, value)

        assert await layer.receive(channel) == value

    asyncio.run(scenario())


def test_each_member_of_a_group_gets_a_copy(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layer = make_layer()
        names = [await layer.new_channel() for _ in range(3)]
        for name in names:
            await layer.group_add("room", name)
        await layer.group_discard("room", names[2])
        await layer.group_send("room", {"type": "said", "words": ["hello"]})
        first = await layer.receive(names[0])
        first["words"].append("changed")

        assert (await layer.receive(names[1]))["words"] == ["hello"]
        assert names[2] not in layer.channels

    asyncio.run(scenario())


def test_message_of_what_no_other_process_could_read_is_refused(
    make_layer: MakeLayer,
) -> None:
    layer = make_layer()

    with pytest.raises(TypeError, match=r"(?i)can ?not serialize"):
        asyncio.run(layer.send("a", {"type": "said", "what": object()}))


def test_message_over_the_limit_is_refused(make_layer: MakeLayer) -> None:
    layer = make_layer(peer_buffer=1000)

    for call in (layer.send, layer.group_send):
        with pytest.raises(ValueError, match="'peer_buffer' is 1000"):
            asyncio.run(call("a", {"type": "said", "text": "x" * 1000}))


def test_capacity_is_found_by_pattern(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layer = make_layer(capacity=3, channel_capacity={"tiny.*": 1, "small": 2})
        for channel, capacity in (("tiny.a", 1), ("small", 2), ("other", 3)):
            for _ in range(capacity):
                await layer.send(channel, message())
            with pytest.raises(ChannelFull):
                await layer.send(channel, message())
            assert layer.get_capacity(channel) == capacity

    asyncio.run(scenario())


def test_full_member_keeps_no_other_from_hearing(
    make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        layer = make_layer(capacity=2)
        full, fresh = [await layer.new_channel() for _ in range(2)]
        await layer.group_add("room", full)
        for number in range(2):
            await layer.send(full, message(number))
        await layer.group_add("room", fresh)
        with caplog.at_level("INFO", "djserve"):
            await layer.group_send("room", message(2))

        assert await layer.receive(fresh) == message(2)
        assert [await layer.receive(full) for _ in range(2)] == [message(0), message(1)]

    asyncio.run(scenario())
    assert "1 of 2 channels over capacity in group room" in caplog.text


def test_expired_messages_and_memberships_are_gone(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layer = make_layer(expiry=0.01, group_expiry=0.02)
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        await layer.send(channel, message())
        await layer.send("unread", message())
        await asyncio.sleep(0.03)
        await layer.group_send("room", message())

        assert layer.groups == {}
        assert dict(layer.channels) == {}

    asyncio.run(scenario())


def test_flush_leaves_nothing_but_receivers(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layer = make_layer()
        channel = await layer.new_channel()
        for name in (channel, "plain"):
            await layer.group_add("room", name)
        await layer.send(channel, message())
        waiting = asyncio.create_task(layer.receive("other"))
        await settle()
        await layer.flush()
        assert layer.groups == {} and list(layer.channels) == ["other"]
        await layer.group_send("room", message(1))
        await layer.send("other", message(2))

        assert await waiting == message(2)
        assert dict(layer.channels) == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["=+135!", "a b", "x" * 100, "", 7, "ä"])
def test_names_against_the_rules_are_refused(make_layer: MakeLayer, name: Any) -> None:
    layer = make_layer()
    for call in (
        layer.send(name, {}),
        layer.receive(name),
        layer.group_send(name, {}),
        layer.group_add(name, "a"),
        layer.group_add("a", name),
        layer.group_discard("a", name),
    ):
        with pytest.raises(TypeError):
            asyncio.run(call)


def test_channel_of_another_process_cannot_be_received_from(
    make_layer: MakeLayer,
) -> None:
    with pytest.raises(AssertionError, match="not a channel of this process"):
        asyncio.run(make_layer().receive("specific.other!abc"))


def test_receiver_that_is_cancelled_loses_no_message(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layer = make_layer()
        channel = await layer.new_channel()
        for turns in range(6):
            receiver = asyncio.create_task(layer.receive(channel))
            await settle(turns)
            await layer.send(channel, message(turns))
            receiver.cancel()
            await asyncio.wait({receiver})
            if receiver.cancelled():
                got = await layer.receive(channel)
            else:
                got = receiver.result()
            assert got == message(turns)

    asyncio.run(scenario())


def test_sender_that_never_pauses_leaves_receivers_their_turn(
    make_layer: MakeLayer,
) -> None:
    async def scenario() -> None:
        layer = make_layer(capacity=10)
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        got: list[Any] = []

        async def receive() -> None:
            while len(got) < 200:
                got.append(await layer.receive(channel))

        receiver = asyncio.create_task(receive())
        await settle()
        for number in range(100):
            await layer.send(channel, message(number))
        for number in range(100, 200):
            await layer.group_send("room", message(number))
        await receiver

        assert got == [message(number) for number in range(200)]

    asyncio.run(scenario())


def test_loops_follow_one_another(make_layer: MakeLayer) -> None:
    layer = make_layer()
    channel = async_to_sync(layer.new_channel)()
    async_to_sync(layer.group_add)("room", channel)
    for number in range(3):
        async_to_sync(layer.group_send)("room", message(number))

    assert [async_to_sync(layer.receive)(channel) for _ in range(3)] == [
        message(number) for number in range(3)
    ]


def test_threads_send_to_a_loop(make_layer: MakeLayer) -> None:
    layer = make_layer(capacity=1000)

    async def scenario() -> list[Any]:
        channel = await layer.new_channel()
        await layer.group_add("room", channel)

        def send() -> None:
            for number in range(50):
                async_to_sync(layer.group_send)("room", message(number))

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        got = [await layer.receive(channel) for _ in range(200)]
        for thread in threads:
            thread.join()
        return got

    numbers = [each["number"] for each in asyncio.run(scenario())]
    assert sorted(numbers) == sorted(4 * list(range(50)))


def test_layer_that_is_dropped_leaves_no_file(
    make_layer: MakeLayer, folder: str
) -> None:
    layer = HostChannelLayer(folder=folder)
    asyncio.run(layer.new_channel())
    (place,) = os.listdir(folder)
    assert len(os.listdir(f"{folder}/{place}")) == 2
    del layer
    gc.collect()

    assert os.listdir(f"{folder}/{place}") == []


def test_closed_layer_can_be_used_again(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        layer = make_layer()
        before = await layer.new_channel()
        await layer.close()
        after = await layer.new_channel()
        await layer.send(before, message(1))
        await layer.send(after, message(2))

        assert await layer.receive(after) == message(2)

    asyncio.run(scenario())


def test_layers_of_different_prefixes_are_apart(make_layer: MakeLayer) -> None:
    async def scenario() -> None:
        one, other = make_layer(prefix="one"), make_layer(prefix="other")
        channel = await one.new_channel()
        await one.group_add("room", channel)
        await other.group_send("room", message(1))
        await one.group_send("room", message(2))

        assert await one.receive(channel) == message(2)

    asyncio.run(scenario())


@pytest.mark.parametrize("prefix", ["", "a/b", "..", "x" * 33])
def test_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="'prefix'"):
        HostChannelLayer(prefix=prefix)


def test_channels_finds_the_layer_by_its_settings(folder: str) -> None:
    config = {
        "default": {
            "BACKEND": "djserve.channels.HostChannelLayer",
            "CONFIG": {"folder": folder, "capacity": 7},
            "TEST_CONFIG": {"folder": folder, "expiry": 100500},
        }
    }
    with override_settings(CHANNEL_LAYERS=config):
        layer = get_channel_layer()
        assert isinstance(layer, HostChannelLayer)
        assert layer.get_capacity("any") == 7
        assert channel_layers.make_test_backend("default").expiry == 100500
        assert layer.extensions == ["groups", "flush"]


@pytest.mark.parametrize("package", ["channels", "msgpack"])
def test_missing_package_is_named_with_what_to_install(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import djserve.channels"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *_, error, note = done.stderr.splitlines()

    assert error.startswith("ModuleNotFoundError: ")
    assert package in error
    assert note == 'Install it: python -m pip install "djserve[channels]"'


# In a process of its own: this one may have threads, which a fork would leave behind.
FORK = """
import asyncio, os, sys
from django.conf import settings
settings.configure(DATABASES={}, SECRET_KEY="x")
from djserve.channels import HostChannelLayer

layer = HostChannelLayer(folder=sys.argv[1])

def send_as_another_process(name):
    assert not layer.groups and layer.client_prefix != name
    # On no loop: the one here is the parent's.
    layer._node.send_group("room", layer.serialize({"type": "said"}))

async def parent():
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    receiver = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    name = layer.client_prefix
    child = os.fork()
    if not child:
        try:
            send_as_another_process(name)
        finally:
            os._exit(0)
    assert await receiver == {"type": "said"}
    assert list(layer.groups) == ["room"] and layer.client_prefix == name
    assert len(os.listdir(os.path.join(sys.argv[1], "asgi.1"))) == 2

asyncio.run(parent())
"""


@pytest.mark.e2e
def test_forked_child_is_a_process_without_channels(folder: str) -> None:
    command = [sys.executable, "-c", FORK, folder]
    ended = subprocess.run(
        command, cwd=ROOT, timeout=120, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_another_loop_reads_on_when_the_first_ends(make_layer: MakeLayer) -> None:
    layer, sender = make_layer(), make_layer()
    is_reading, is_waiting, may_end = (threading.Event() for _ in range(3))
    got: list[Any] = []

    async def first() -> None:
        channel = await layer.new_channel()
        receiver = asyncio.create_task(layer.receive(channel))
        await settle()
        is_reading.set()
        await wait_until(may_end.is_set)
        receiver.cancel()

    async def second() -> None:
        channel = await layer.new_channel()
        receiver = asyncio.create_task(layer.receive(channel))
        await settle()
        is_waiting.set()
        # From here on only a loop that reads the socket brings it.
        await wait_until(lambda: not reading.is_alive())
        await sender.send(channel, message(3))
        got.append(await receiver)

    reading = threading.Thread(target=asyncio.run, args=(first(),))
    reading.start()
    assert is_reading.wait(60)
    waiting = threading.Thread(target=asyncio.run, args=(second(),))
    waiting.start()
    assert is_waiting.wait(60)
    may_end.set()
    for thread in (reading, waiting):
        thread.join(60)

    assert got == [message(3)]
