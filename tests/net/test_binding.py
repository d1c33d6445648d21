"""Sockets bound once for many processes."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.errors import ConfigError, ListenError
from djserve.net.binding import find_ids
from tests.support.binding import bind

pytestmark = pytest.mark.e2e


def test_each_address_is_bound_and_named() -> None:
    first, second = bind(parse({"BIND": ["127.0.0.1:0", "127.0.0.1:0"]}))

    assert first.url.startswith("http://127.0.0.1:")
    assert first.fileno() != second.fileno()
    first.close()
    second.close()


def test_unix_socket_has_the_mode_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    (sock,) = bind(parse({"BIND": [f"unix:{path}"], "UNIX_MODE": "640"}))

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    sock.close()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_unix_socket_has_the_owner_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    config = parse({"BIND": [f"unix:{path}"], "UNIX_OWNER": "nobody:daemon"})
    (sock,) = bind(config)

    found = path.stat()
    assert found.st_uid == pwd.getpwnam("nobody").pw_uid
    assert found.st_gid == grp.getgrnam("daemon").gr_gid
    sock.close()


def test_file_of_a_unix_socket_can_be_left_to_another(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    (sock,) = bind(parse({"BIND": [f"unix:{path}"]}))
    assert sock.owns_file
    sock.close(keep_file=True)

    assert path.exists()


def test_endpoint_string_cannot_be_shared() -> None:
    with pytest.raises(ConfigError, match="cannot share a Twisted endpoint"):
        bind(parse({"BIND": ["127.0.0.1:0", "tcp:0"]}))


def test_address_in_use_is_told_and_nothing_stays_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match="in use"):
            bind(parse({"BIND": ["127.0.0.1:0", f"127.0.0.1:{port}"]}))


def test_owner_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigError, match="no such user or group"):
        find_ids("nobody-of-that-name")


def test_owner_may_name_the_group_alone() -> None:
    assert find_ids(":daemon") == (-1, grp.getgrnam("daemon").gr_gid)
