"""The PROXY protocol, versions 1 and 2: who is behind the proxy that has connected.

Knows bytes only. The header comes before everything else on a connection, TLS included.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import TypeAlias

from djserve.postponed import pattern

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first twelve bytes of version 2."""

V1_LIMIT = 107
"""The longest line of version 1, its end included."""

V2_LIMIT = 4096
"""More than any proxy sends in the extensions (TLVs) of version 2."""

_V2_START = 16
_LOCAL, _PROXY = 0x20, 0x21
_INET, _INET6 = 0x11, 0x21

_NUMBER = pattern(rb"0|[1-9][0-9]{0,4}")

Address: TypeAlias = tuple[str, int]


class BadHeader(ValueError):
    """The bytes are no PROXY protocol header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The client, and the address that it has connected to.

    Both are None if the proxy speaks for itself (LOCAL, UNKNOWN): a health check.
    """

    client: Address | None
    server: Address | None


def missing_bytes(data: bytes) -> int:
    """Return how many bytes more belong to the header for certain, 0 at its end.

    Nothing that follows the header may be taken by its reader. Raises BadHeader.
    """
    if not data:
        # The least that both versions have.
        return len(b"PROXY UNKNOWN\r\n")
    if SIGNATURE.startswith(data[:12]):
        return _missing_v2(data)
    if not b"PROXY ".startswith(data[:6]):
        raise BadHeader("neither version 1 nor version 2")
    if data.endswith(b"\r\n"):
        return 0
    if len(data) >= V1_LIMIT or b"\n" in data:
        raise BadHeader("the line does not end")
    # A line feed is still to come, and a carriage return unless it is there already.
    return 1 if data.endswith(b"\r") else 2


def parse_header(data: bytes) -> ProxyHeader:
    """Return what a complete header says. Raises BadHeader."""
    if data.startswith(SIGNATURE):
        return _parse_v2(data)
    return _parse_v1(data)


def _missing_v2(data: bytes) -> int:
    if len(data) < _V2_START:
        return _V2_START - len(data)
    (length,) = struct.unpack_from("!H", data, 14)
    if length > V2_LIMIT:
        raise BadHeader("the header is too long")
    return _V2_START + int(length) - len(data)


def _parse_v1(data: bytes) -> ProxyHeader:
    words = data.removesuffix(b"\r\n").split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return ProxyHeader(None, None)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise BadHeader("a malformed line")
    version = 4 if words[1] == b"TCP4" else 6
    return ProxyHeader(
        _read_address(words[2], words[4], version),
        _read_address(words[3], words[5], version),
    )


def _read_address(host: bytes, port: bytes, version: int) -> Address:
    try:
        address = ipaddress.ip_address(host.decode("ascii"))
    except ValueError as error:
        raise BadHeader("a malformed address") from error
    # Section 2.1 of the specification knows no zones, and no zeros before a number.
    if address.version != version or b"%" in host or not _is_port(port):
        raise BadHeader("a malformed address or port")
    return str(address), int(port)


def _is_port(port: bytes) -> bool:
    return _NUMBER.fullmatch(port) is not None and int(port) <= 65535


def _parse_v2(data: bytes) -> ProxyHeader:
    command, family = data[12], data[13]
    if command == _LOCAL:
        return ProxyHeader(None, None)
    if command != _PROXY:
        raise BadHeader("an unknown version or command")
    size = {_INET: 4, _INET6: 16}.get(family)
    if size is None:
        # Another transport, or none: the connection's own addresses stand.
        return ProxyHeader(None, None)
    if len(data) < _V2_START + 2 * size + 4:
        raise BadHeader("the addresses are cut off")
    source, target, source_port, target_port = struct.unpack_from(
        f"!{size}s{size}sHH", data, _V2_START
    )
    return ProxyHeader(
        (str(ipaddress.ip_address(source)), source_port),
        (str(ipaddress.ip_address(target)), target_port),
    )
