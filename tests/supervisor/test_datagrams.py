"""The workers' UDP sockets: handed out, refused, and the folder that they meet in."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from djserve.errors import ListenError
from djserve.net.channel import open_pair
from djserve.supervisor.datagrams import DatagramSockets
from djserve.supervisor.messages import ServeDatagrams, decode_order

pytestmark = pytest.mark.e2e

ANYONE = (-1, -1)


def test_each_worker_gets_sockets_of_its_own(free_port: int) -> None:
    sockets = DatagramSockets([f"127.0.0.1:{free_port}", "127.0.0.1:0"], ANYONE)
    descriptors = []
    for _ in range(2):
        ours, theirs = open_pair()
        worker: Any = SimpleNamespace(channel=ours)
        sockets.hand_out(worker)
        messages = theirs.receive()
        assert [decode_order(each) for each in messages] == 2 * [
            ServeDatagrams(sockets.folder)
        ]
        descriptors += [theirs.take_descriptor() for _ in messages]
        ours.close()
        theirs.close()
    found = [socket.socket(fileno=number) for number in descriptors]
    ports = [sock.getsockname()[1] for sock in found]
    for sock in found:
        sock.close()
    sockets.remove_folder()

    assert ports[0] == ports[2] == free_port
    assert free_port not in (ports[1], ports[3])


def test_folder_is_the_workers_alone_and_goes_in_the_end() -> None:
    sockets = DatagramSockets([], ANYONE)
    folder = Path(sockets.folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "left").touch()
    # A successor meets in the same one.
    assert DatagramSockets([], ANYONE, sockets.folder).folder == sockets.folder
    sockets.remove_folder()

    assert not folder.exists()


def test_folder_with_a_long_name_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    sockets = DatagramSockets([], ANYONE)
    assert os.path.dirname(sockets.folder) == "/tmp"
    assert list(long.iterdir()) == []
    sockets.remove_folder()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_folder_lies_where_the_workers_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = pwd.getpwnam("nobody").pw_uid
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o700)
    sockets = DatagramSockets([], (user, -1))
    status = os.stat(sockets.folder)
    sockets.remove_folder()

    assert os.path.dirname(sockets.folder) == "/tmp"
    assert (status.st_uid, status.st_mode & 0o777) == (user, 0o700)


def test_port_of_another_program_ends_the_start() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="HTTP/3"):
            DatagramSockets([address], ANYONE)


def test_port_that_is_taken_later_is_logged(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{free_port}"
    sockets = DatagramSockets([address], ANYONE)
    ours, theirs = open_pair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", free_port))
        with caplog.at_level(logging.ERROR, "djserve"):
            sockets.hand_out(SimpleNamespace(channel=ours))  # type: ignore[arg-type]
    assert theirs.receive() == []
    ours.close()
    theirs.close()
    sockets.remove_folder()

    assert address in caplog.text
