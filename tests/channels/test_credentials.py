from __future__ import annotations

import os
import socket

import pytest

from djserve.channels.credentials import is_trusted


def test_peer_of_the_folders_owner_is_trusted() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert is_trusted(one, os.geteuid())


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="not told here")
def test_peer_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr("djserve.channels.credentials._ROOT", 4712)
    with one, other:
        assert not is_trusted(one, 4713)


def test_socket_that_has_no_peer_is_not_trusted() -> None:
    one, other = socket.socketpair()
    other.close()
    one.close()

    assert not is_trusted(one, os.geteuid())
