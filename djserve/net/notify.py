"""Datagrams to the service manager (sd_notify)."""

from __future__ import annotations

import socket


def send_datagram(address: str, text: str) -> None:
    """Send ``text`` to a unix datagram socket; "@" begins an abstract name.

    A service manager that is gone is not the server's trouble: nothing is raised.
    """
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.setblocking(False)
            sock.sendto(text.encode(), name)
        except OSError:
            return
