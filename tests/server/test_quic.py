"""HTTP/3 beside TLS addresses: which ones, what is missing, what stays closed."""

from __future__ import annotations

import asyncio
import os
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
from djserve.net.quic.sockets import open_datagram_socket
from djserve.server.quic import QUICServer

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


class Process:
    """What one process serves of HTTP/3, and the ports that it offers."""

    def __init__(self, tls: TLSConfig) -> None:
        self.offered: list[int] = []
        factory: Any = SimpleNamespace(
            open_streams=None, offer_http3=self.offered.append
        )
        self.quic = QUICServer(
            asyncio.get_running_loop(),
            tls,
            HTTPConfig(),
            HTTP2Config(),
            Certificates(tls, ("http/1.1",)),
            factory,
        )


def open_beside(tls: TLSConfig, *addresses: str) -> tuple[list[str], list[int]]:
    async def run() -> tuple[list[str], list[int]]:
        process = Process(tls)
        try:
            process.quic.open_beside(
                Listener(address, lambda: None, tls=True) for address in addresses
            )
            found = [listener.address for listener in process.quic.listeners]
        finally:
            process.quic.close()
        return found, process.offered

    return asyncio.run(run())


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


def test_supervisor_socket_is_served(tls: TLSConfig, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    async def run() -> None:
        process = Process(tls)
        sock = open_datagram_socket("127.0.0.1:0", is_shared=True)
        port = sock.getsockname()[1]
        process.quic.adopt(sock.detach(), str(folder))
        assert process.offered == [port]
        assert len(list(folder.iterdir())) == 1
        process.quic.stop()
        process.quic.stop()
        # It has no connections left.
        open_datagram_socket(f"127.0.0.1:{port}").close()
        process.quic.close()

    asyncio.run(run())
    assert list(folder.iterdir()) == []


def test_socket_that_comes_late_or_in_vain_is_closed(
    tls: TLSConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        for folder, stops_before in ((tmp_path, True), (tmp_path / "missing", False)):
            process = Process(tls)
            if stops_before:
                process.quic.stop()
            number = open_datagram_socket("127.0.0.1:0", is_shared=True).detach()
            process.quic.adopt(number, str(folder))
            assert (process.offered, process.quic.listeners) == ([], [])
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(number)
            process.quic.close()

    asyncio.run(run())
    (record,) = caplog.records
    assert str(tmp_path / "missing") in record.getMessage()
