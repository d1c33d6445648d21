"""Socket names <-> the address objects that Twisted hands out."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress


def twisted_address(family: int, name: Any) -> Any:
    """Return what ``getsockname`` or ``getpeername`` gave as Twisted's address."""
    if family == socket.AF_INET6:
        return IPv6Address("TCP", *name)
    if family == socket.AF_INET:
        return IPv4Address("TCP", *name)
    return UNIXAddress(name or None)


def host_and_port(address: object) -> tuple[str, int] | None:
    """Return an internet address as ASGI has it; None for any other."""
    if isinstance(address, IPv4Address | IPv6Address):
        return address.host, address.port
    return None
