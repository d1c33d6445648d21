"""The control socket: who may open it, and how it answers."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.errors import ConfigError
from djserve.net.channel import Channel
from djserve.net.control import ControlListener, ask, send_datagram

pytestmark = pytest.mark.e2e


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control")


@pytest.fixture
def listener(path: str) -> Iterator[ControlListener]:
    listener = ControlListener(path)
    yield listener
    listener.close()


def answer_once(listener: ControlListener, answer: dict[str, object] | None) -> None:
    """Answer the next request in another thread; None hangs up."""

    def serve() -> None:
        channel: Channel | None = None
        while channel is None:
            channel = listener.accept()
        while not channel.receive():
            pass
        if answer is not None:
            channel.send(answer)
        channel.close()

    threading.Thread(target=serve, daemon=True).start()


def test_only_the_owner_may_open_it(listener: ControlListener, path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_request_is_answered(listener: ControlListener, path: str) -> None:
    answer_once(listener, {"workers": 2})

    assert ask(path, {"command": "status"}, timeout=60) == {"workers": 2}


def test_supervisor_that_hangs_up_is_told(listener: ControlListener, path: str) -> None:
    answer_once(listener, None)

    with pytest.raises(ConfigError, match="did not answer"):
        ask(path, {"command": "status"}, timeout=60)


def test_absent_supervisor_is_told(path: str) -> None:
    with pytest.raises(ConfigError, match="No supervisor answers"):
        ask(path, {"command": "status"}, timeout=1)


def test_nobody_there_accepts_nobody(listener: ControlListener) -> None:
    assert listener.accept() is None


def test_file_goes_with_the_listener(path: str) -> None:
    ControlListener(path).close()

    assert not os.path.exists(path)


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
