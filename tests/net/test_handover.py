"""Sockets that the reloader's parent holds, and the process that serves inherits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from djserve.errors import ListenError
from djserve.net.handover import (
    VARIABLE,
    hold_sockets,
    inherit_sockets,
    protect_sockets,
)

pytestmark = pytest.mark.e2e

CHILD = """
from djserve.net.handover import inherit_sockets, protect_sockets

protect_sockets()
(sock,) = inherit_sockets(("127.0.0.1", 0), 10)
sock.setblocking(True)
client, _ = sock.accept()
client.sendall(b"%d" % sock.getsockname()[1])
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def held_port() -> int:
    (number,) = json.loads(os.environ[VARIABLE])["descriptors"]
    with socket.socket(fileno=os.dup(number)) as sock:
        return int(sock.getsockname()[1])


def test_client_that_comes_first_is_served_by_the_process_that_inherits() -> None:
    with hold_sockets(("127.0.0.1", 0), 10):
        port = held_port()
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            subprocess.run(
                [sys.executable, "-c", CHILD], close_fds=False, check=True, timeout=120
            )
            assert client.recv(100) == b"%d" % port


def test_nothing_is_left_after_the_block(port: int) -> None:
    with hold_sockets(("127.0.0.1", port), 10):
        pass

    assert VARIABLE not in os.environ
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 60)


@pytest.mark.parametrize("impossible", ["taken", 70_000], ids=["taken", "too large"])
def test_address_that_cannot_be_bound_is_left_to_the_server(impossible: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        number = taken if impossible == "taken" else 70_000
        with hold_sockets(("127.0.0.1", number), 10):
            assert VARIABLE not in os.environ
            with pytest.raises((ListenError, OverflowError)):
                inherit_sockets(("127.0.0.1", number), 10)


def test_another_address_is_bound(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold_sockets(("127.0.0.1", 0), 10):
        monkeypatch.setattr(os, "getppid", os.getpid)
        (sock,) = inherit_sockets(("127.0.0.1", port), 10)
        with sock:
            assert sock.getsockname()[1] == port


def test_variable_of_another_parent_is_not_believed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ("127.0.0.1", port)
    held = {"parent": os.getppid() + 1, "address": address, "descriptors": [0]}
    monkeypatch.setenv(VARIABLE, json.dumps(held))
    protect_sockets()
    (sock,) = inherit_sockets(address, 10)
    with sock:
        assert sock.getsockname() == address


def test_programs_of_the_project_do_not_inherit_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hold_sockets(("127.0.0.1", 0), 10):
        (number,) = json.loads(os.environ[VARIABLE])["descriptors"]
        assert os.get_inheritable(number)
        monkeypatch.setattr(os, "getppid", os.getpid)
        protect_sockets()
        assert not os.get_inheritable(number)
