"""HTTP/3 beside TLS addresses: which ones, what is missing, what stays closed."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from djserve.conf.schema import HTTP2Config, HTTPConfig, TLSConfig
from djserve.errors import ConfigError, ListenError
from djserve.net.certificates import Certificates
from djserve.net.listeners import Listener
from djserve.server.quic import prepare_quic

pytestmark = pytest.mark.e2e


@pytest.fixture
def tls(tmp_path: Path) -> TLSConfig:
    leaf = trustme.CA().issue_cert("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    return TLSConfig(certfile=str(tmp_path / "cert.pem"))


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a UDP port that is in use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def open_beside(tls: TLSConfig, *addresses: str) -> tuple[list[str], list[int]]:
    offered: list[int] = []
    factory: Any = SimpleNamespace(open_streams=None, offer_http3=offered.append)

    async def run() -> list[str]:
        certificates = Certificates(tls, ("http/1.1",))
        loop = asyncio.get_running_loop()
        beside = [Listener(address, lambda: None, tls=True) for address in addresses]
        listeners = prepare_quic(
            loop, tls, HTTPConfig(), HTTP2Config(), certificates, factory
        )(beside)
        for listener in listeners:
            listener.close()
        return [listener.address for listener in listeners]

    return asyncio.run(run()), offered


def test_ports_get_one_and_unix_sockets_none(tls: TLSConfig, free_port: int) -> None:
    found = open_beside(tls, f"127.0.0.1:{free_port}", "unix:/run/site:1")

    assert found == ([f"127.0.0.1:{free_port}"], [free_port])


def test_port_in_use_stops_the_start(tls: TLSConfig, taken: int) -> None:
    with pytest.raises(ListenError, match="HTTP/3"):
        open_beside(tls, "127.0.0.1:0", f"127.0.0.1:{taken}")


def test_missing_package_is_named(
    tls: TLSConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("djserve.net.quic."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aioquic", None)
    monkeypatch.setitem(sys.modules, "aioquic.quic.configuration", None)

    with pytest.raises(ConfigError, match=r"djserve\[http3\]"):
        open_beside(tls, "127.0.0.1:0")
