from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from djserve.net.datagrams import DatagramReceiver, send_all

pytestmark = pytest.mark.e2e


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(60)
        yield sock


def test_datagrams_arrive_by_udp(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    with DatagramReceiver(f"{host}:{port}").open() as sock:
        assert send_all(sock, [b"one", b"two"]) is None

    assert [listener.recv(100), listener.recv(100)] == [b"one", b"two"]


def test_datagrams_arrive_at_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "statsd")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(path)
        listener.settimeout(60)
        with DatagramReceiver(f"unix:{path}").open() as sock:
            send_all(sock, [b"one"])
        assert listener.recv(100) == b"one"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_port_without_a_listener_is_told_and_does_not_stop(
    listener: socket.socket, count: int
) -> None:
    host, port = listener.getsockname()
    listener.close()
    with DatagramReceiver(f"{host}:{port}").open() as sock:
        problem = send_all(sock, [b"one"] * count)

    assert isinstance(problem, ConnectionRefusedError)


def test_receiver_that_reads_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djserve.net.datagrams.SEND_TIMEOUT", 0.01)
    path = str(tmp_path / "statsd")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(path)
        with DatagramReceiver(f"unix:{path}").open() as sock:
            problem = send_all(sock, [b"x" * 1000] * 100_000)

    assert isinstance(problem, TimeoutError)


def test_absent_receiver_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DatagramReceiver(f"unix:{tmp_path}/none").open()


def test_datagrams_need_an_address(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fd://3"):
        DatagramReceiver("fd://3").open()
