from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from djserve.net.names import host_and_port, twisted_address


@pytest.mark.parametrize(
    ("family", "name", "address", "pair"),
    [
        (socket.AF_INET, ("1.2.3.4", 5), IPv4Address("TCP", "1.2.3.4", 5), "1.2.3.4"),
        (socket.AF_INET6, ("::1", 5, 0, 2), IPv6Address("TCP", "::1", 5, 0, 2), "::1"),
        (socket.AF_UNIX, "/a", UNIXAddress("/a"), None),
        (socket.AF_UNIX, "", UNIXAddress(None), None),
    ],
    ids=["ipv4", "ipv6", "unix", "unnamed"],
)
def test_socket_name_becomes_an_address_and_a_pair(
    family: int, name: Any, address: object, pair: str | None
) -> None:
    made = twisted_address(family, name)

    assert made == address
    assert host_and_port(made) == (None if pair is None else (pair, 5))
