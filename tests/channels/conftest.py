"""Layers and processes that meet in a folder of the test's own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from djserve.channels import HostChannelLayer
from tests.channels.member import Process
from tests.channels.other_end import OtherEnd

MakeLayer = Callable[..., HostChannelLayer]
StartProcess = Callable[..., Process]


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a short name, as the path of a unix socket needs it."""
    path = tempfile.mkdtemp(prefix="layer-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def process(folder: str) -> Iterator[OtherEnd]:
    """Give another process of the site, as its peers see it."""
    process = OtherEnd(folder)
    yield process
    process.end()
    process.register.close()


@pytest.fixture
def make_layer(folder: str) -> Iterator[MakeLayer]:
    """Give ``make_layer(**options)``: each is a process to the others."""
    made: list[HostChannelLayer] = []

    def make(**options: Any) -> HostChannelLayer:
        layer = HostChannelLayer(**{"folder": folder, **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        asyncio.run(layer.close())


@pytest.fixture
def start_process(folder: str) -> Iterator[StartProcess]:
    """Give ``start_process(**options)``: a process with a layer, to be told things."""
    started: list[Process] = []

    def start(**options: Any) -> Process:
        process = Process(folder, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
