"""The lines of the start-up message."""

from __future__ import annotations

import asyncio
import platform

import pytest

import djserve
from djserve.conf.parser import parse
from djserve.server.banner import (
    describe_access_log,
    describe_bounds,
    describe_loop,
    describe_size,
    describe_webtransport,
    start_lines,
)


def test_message_says_what_runs_and_where() -> None:
    urls = ["http://127.0.0.1:8000/", "unix:/run/x"]
    loop = asyncio.new_event_loop()
    loop.close()

    lines = start_lines(
        urls,
        describe_loop(loop),
        ["a note"],
        http2=True,
        http3=False,
        tls=False,
        access_log=None,
    )

    assert list(lines) == [
        f"djserve {djserve.__version__} speaks HTTP/1.1, HTTP/2, WebSocket "
        f"(asyncio, Python {platform.python_version()})",
        "Listening on http://127.0.0.1:8000/, unix:/run/x",
        "Access log: off",
        "a note",
    ]


def test_tls_and_the_access_log_are_said() -> None:
    urls = ["https://127.0.0.1:1/"]
    lines = list(
        start_lines(urls, "uvloop", http2=False, http3=True, tls=True, access_log="-")
    )

    assert "speaks HTTP/1.1, HTTP/3, WebSocket" in lines[0]
    assert lines[1] == "Listening on https://127.0.0.1:1/ with TLS"
    assert lines[2] == "Access log: standard output"


def test_webtransport_without_http3_is_said() -> None:
    certificate = {"CERTFILE": "/dev/null"}
    wanted = parse({"WEBTRANSPORT": True, **certificate}).http3
    offered = parse({"WEBTRANSPORT": True, "HTTP3": True, **certificate}).http3

    assert describe_webtransport(wanted) == ["WebTransport: not offered, HTTP3 is off"]
    for config in (offered, parse({}).http3):
        assert describe_webtransport(config) == []


def test_uvloop_is_named() -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    loop.close()

    assert describe_loop(loop) == "uvloop"


@pytest.mark.parametrize(
    ("path", "text"),
    [(None, "off"), ("-", "standard output"), ("/var/log/a.log", "/var/log/a.log")],
)
def test_access_log_is_described(path: str | None, text: str) -> None:
    assert describe_access_log(path) == text


def test_bounds_of_workers_are_added_up() -> None:
    bounds = parse({"CLIENT_MEMORY_LIMIT": 100 * 2**20, "CONNECTION_LIMIT": 500}).bounds

    assert describe_bounds(bounds, 8) == (
        "Together the 8 workers may hold 4000 connections, 800 MiB for clients, "
        "64 GiB of uploads on disk"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536 * 2**20, "1.5 GiB")],
)
def test_sizes_are_in_units(size: int, text: str) -> None:
    assert describe_size(size) == text
