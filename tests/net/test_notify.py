"""Datagrams to a service manager."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from djserve.net.notify import send_datagram


def test_text_arrives_at_a_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        send_datagram(str(tmp_path / "notify"), "READY=1")

        assert sock.recv(100) == b"READY=1"


def test_text_arrives_at_an_abstract_name() -> None:
    name = f"djserve-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        send_datagram(f"@{name}", "READY=1")

        assert sock.recv(100) == b"READY=1"


def test_receiver_that_is_gone_is_no_error(tmp_path: Path) -> None:
    send_datagram(str(tmp_path / "gone"), "READY=1")
