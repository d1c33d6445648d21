"""The architecture page: its layers are the contracts', its ways are walked."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from h2.connection import H2Connection

import djserve
from djserve.asgi.application import ApplicationCalls
from djserve.asgi.scope import ScopeBuilder
from djserve.conf import loader
from djserve.conf.options import add_arguments, mapping_from_namespace
from djserve.conf.schema import ServerConfig
from djserve.handlers import ASGIHandler
from djserve.handlers.runtime import make_pool
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.support.waiting import wait_until

PACKAGE = Path(djserve.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "architecture.md"
PATIENCE = 60

WAYS = (
    "HTTP/1.1 to a synchronous view",
    "HTTP/2 to an asynchronous view",
    "A WebSocket message",
    "A setting",
)

NAME = re.compile(r"`(\w+(?:\.\w+)?)`(?:[ ,]+\(?`([\w/]+\.py)`\)?)?")
"""A name in the text, and the module that may follow it."""

DEFINITION = re.compile(
    r"^( {4})?(?:(?:async )?(def|class) (\w+)|(?<= {4})(\w+): )", re.MULTILINE
)
"""A function or class of a module, or a method or field of its last class."""

DECLARED = {"HTTPConfig.keep_alive_timeout", "setting"}
"""Run when the module is imported, before anything is traced."""

NEEDS_A_SERVER = {"run", "launch"}

CACHED = {"groups"}
"""Called once in a process."""

UNSEEN = DECLARED | NEEDS_A_SERVER | CACHED

NO_CODE = {"config.http", "settings.DJSERVE", "websocket.accept", "websocket.send"}
NO_CODE |= {"KEEP_ALIVE_TIMEOUT", "send_binary"}
"""Values, messages of ASGI, and what is named beside its like."""


class Named(NamedTuple):
    """A function or class that the page names, and the module it is said to be in."""

    name: str
    module: str | None


@cache
def section(way: str) -> str:
    """Return the text of one way."""
    return PAGE.read_text().split(f"### {way}\n")[1].split("\n#")[0]


def named_in(way: str) -> list[Named]:
    """Return the names of one way, in the order of the text."""
    found = [Named(name, module or None) for name, module in NAME.findall(section(way))]
    return [each for each in found if each.name not in NO_CODE]


@cache
def definitions() -> dict[str, set[str]]:
    """Return the modules that define each function, class, method and field."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        module = file.relative_to(PACKAGE).as_posix()
        owner = ""
        for indent, kind, name, field in DEFINITION.findall(file.read_text()):
            if kind == "class" and not indent:
                owner = name
            name = f"{owner}.{name or field}" if indent else name
            found.setdefault(name, set()).add(module)
    return found


def is_function(name: str) -> bool:
    """Tell a function from a class."""
    return "." in name or not name.lstrip("_")[0].isupper()


def test_layers_of_the_page_are_those_of_the_contract() -> None:
    project = tomllib.loads((PAGE.parents[2] / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][0]
    block = (
        PAGE.read_text().split("## Imports go down only\n\n```\n")[1].split("```")[0]
    )
    layers = [re.sub(r"[()]", "", layer) for layer in contract["layers"]]

    assert block.splitlines() == layers


def test_each_layer_has_its_row() -> None:
    table = PAGE.read_text().split("## The layers\n")[1].split("\n## ")[0]
    rows = {name.partition(".")[0] for name in re.findall(r"`([\w.]+)`", table)}
    modules = {file.stem for file in PACKAGE.glob("[a-z]*.py")}
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}

    assert len(modules | packages) > 20
    assert (modules | packages) - rows == set()


@pytest.mark.parametrize("way", WAYS)
def test_each_name_on_the_way_exists_where_it_is_said_to_be(way: str) -> None:
    names = named_in(way)
    known = definitions()

    assert [each.name for each in names if each.name not in known] == []
    assert [
        each
        for each in names
        if each.module is not None and each.module not in known[each.name]
    ] == []


@pytest.mark.parametrize("way", WAYS)
def test_each_function_on_the_way_has_its_module_named_at_first(way: str) -> None:
    """So a reader finds it, in the text or by the class before it."""
    placed: set[str] = set()
    lost: list[str] = []
    for name, module in named_in(way):
        owner = name.partition(".")[0]
        if module is not None:
            placed.add(owner)
        elif is_function(name) and owner not in placed:
            lost.append(name)

    assert [name for name in lost if len(definitions()[name]) > 1] == []


# The same ways, walked.


def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


async def async_echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


urlpatterns = [
    path("sync/", csrf_exempt(echo)),
    path("async/", csrf_exempt(async_echo)),
]


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Give the names of djserve's functions as they are called, in any thread."""
    calls: list[str] = []
    root = f"{PACKAGE}/"

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(root):
            calls.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


class Site:
    """One connection of djserve's in memory, with an application behind it."""

    def __init__(self, application: Any, alpn: str = "") -> None:
        loop = asyncio.get_running_loop()
        self.calls = ApplicationCalls(application, loop, 0.0)
        factory = ConnectionFactory(ServerConfig(), self.calls, ScopeBuilder())
        self.transport = MemoryTransport()
        client, server = ("192.0.2.1", 50000), ("192.0.2.2", 80)
        info = ConnectionInfo(client, server, alpn=alpn)
        self.transport.set_protocol(factory.open_connection(self.transport, info))

    async def answers(self, data: bytes, end: bytes) -> None:
        """Feed bytes, and return once this has been sent and no call runs."""
        self.transport.feed(data)
        await wait_until(lambda: end in self.transport.data)


async def walk_http1() -> None:
    pool = make_pool(1)
    site = Site(ASGIHandler(pool))
    head = b"POST /sync/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    await site.answers(head + b"hello", b"\r\n\r\nhello")
    await site.calls.wait(PATIENCE)
    assert pool.close(PATIENCE)


async def walk_http2() -> None:
    pool = make_pool(1)
    site = Site(ASGIHandler(pool), "h2")
    client = H2Connection()
    client.initiate_connection()
    fields = {":method": "POST", ":scheme": "http", ":authority": "a"}
    client.send_headers(1, [*fields.items(), (":path", "/async/")])
    client.send_data(1, b"hello", end_stream=True)
    await site.answers(client.data_to_send(), b"hello")
    await site.calls.wait(PATIENCE)
    assert pool.close(PATIENCE)


async def echo_message(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": message["text"]})
    await receive()


async def walk_websocket() -> None:
    site = Site(echo_message)
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    version = b"Sec-WebSocket-Version: 13\r\n\r\n"
    await site.answers(head + key + version, b"101 Switching Protocols")
    await site.answers(b"\x81\x85\x00\x00\x00\x00hello", b"\x81\x05hello")
    site.transport.lose()
    await site.calls.wait(PATIENCE)


async def walk_setting() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = parser.parse_args(["--keep-alive-timeout", "7"])
    config = loader.load_for_production(mapping_from_namespace(given))
    assert config.http.keep_alive_timeout == 7
    site = Site(echo_message)
    receiver: Any = site.transport.receiver
    receiver.tick(0.0)


WALKS: dict[str, Callable[[], Any]] = dict(
    zip(WAYS, (walk_http1, walk_http2, walk_websocket, walk_setting), strict=True)
)


@pytest.mark.parametrize("way", WAYS)
def test_functions_on_the_way_are_called_in_this_order(way: str) -> None:
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=[], ALLOWED_HOSTS=["*"], DJSERVE={}
    ):
        # What is imported and made at the first request is no part of the way.
        asyncio.run(WALKS[way]())
        with recorded() as calls:
            asyncio.run(WALKS[way]())
    wanted = [
        each.name
        for each in named_in(way)
        if is_function(each.name) and each.name not in UNSEEN
    ]

    remaining = iter(calls)
    missing = [name for name in wanted if name not in calls]
    assert missing == []
    walked = [name for name in wanted if name in remaining]
    assert walked == wanted
