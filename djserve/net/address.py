"""Text of a ``bind`` setting -> where to listen, as a small value.

Nothing is looked up here: names are not resolved and paths are not touched.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from djserve.postponed import pattern
from djserve.values import Values

# A server endpoint type of Twisted's own; a host of that name has to be written with a
# final dot ("tcp.:80").
_ENDPOINT_TYPES = frozenset(
    {"haproxy", "ssl", "stdio", "systemd", "tcp", "tcp6", "tls"}
)
_TLS_ENDPOINT = pattern(r"(?:haproxy:)*(?:ssl|tls):")
_TWISTED_UNIX_OPTION = pattern(r"^unix:address=|:(?:backlog|lockfile|mode)=")
_ALL_INTERFACES = ("", "*")


class TCPAddress(Values):
    """A host, by name or number, and a port.

    ``host`` is "" for all interfaces, IPv4 and IPv6. Port 0 lets the kernel choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


class UnixAddress(Values):
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class FDAddress(Values):
    """The number of a file descriptor that was inherited as a listening socket."""

    number: int

    def __str__(self) -> str:
        return f"fd://{self.number}"


class EndpointAddress(Values):
    """A Twisted server endpoint string (``twisted.internet.endpoints``)."""

    description: str

    def __str__(self) -> str:
        return self.description

    @property
    def is_tls(self) -> bool:
        """Whether its clients speak TLS, as far as Twisted's own types tell."""
        return _TLS_ENDPOINT.match(self.description) is not None


Address: TypeAlias = TCPAddress | UnixAddress | FDAddress | EndpointAddress


def parse_address(text: str) -> Address:
    """Read host:port, [ipv6]:port, unix:/path, fd://N or a Twisted endpoint string.

    ":8000" and "*:8000" stand for all interfaces. "unix:/path" is djserve's own; with
    options of Twisted's ("unix:/path:mode=660") it is an endpoint string. Raises
    ValueError with the reason.
    """
    text = text.strip()
    if not text:
        raise ValueError("the address is empty")
    if text.startswith("unix:"):
        return _parse_unix(text)
    if text.startswith("fd:"):
        return _parse_fd(text)
    if _is_endpoint(text):
        return EndpointAddress(text)
    return _parse_tcp(text)


def _parse_unix(text: str) -> UnixAddress | EndpointAddress:
    if _TWISTED_UNIX_OPTION.search(text):
        return EndpointAddress(text)
    path = text.removeprefix("unix:")
    if not path:
        raise ValueError("expected a path after unix:, as in unix:/run/djserve.sock")
    if "\0" in path:
        raise ValueError("the path of a unix socket cannot contain a null character")
    return UnixAddress(path)


def _parse_fd(text: str) -> FDAddress:
    number = text.removeprefix("fd:").removeprefix("//")
    if not _is_number(number):
        raise ValueError(f"expected a file descriptor as in fd://3, got {text!r}")
    return FDAddress(int(number))


def _is_endpoint(text: str) -> bool:
    if text.startswith("["):
        return False
    kind = text.partition(":")[0]
    if kind in _ENDPOINT_TYPES or "=" in text:
        return True
    # More than one colon and no address literal: an endpoint type of a Twisted plugin.
    return text.count(":") > 1 and not re.fullmatch(r"[0-9A-Fa-f:.%]+", text)


def _parse_tcp(text: str) -> TCPAddress:
    host, separator, port = text.rpartition(":")
    if not separator or "]" in port:
        raise ValueError(f"expected host:port, got {text!r} without a port")
    if host.startswith("["):
        host = _unbracket(host)
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets, as in [{host}]:{port}")
    elif host in _ALL_INTERFACES:
        host = ""
    elif re.search(r"[\s/\[\]@\0]", host):
        raise ValueError(f"{host!r} is not a host name or address")
    return TCPAddress(host, _parse_port(port))


def _unbracket(host: str) -> str:
    inner = host[1:-1]
    if not host.endswith("]") or not re.fullmatch(r"[0-9A-Fa-f:.]*:[^\s\[\]]*", inner):
        raise ValueError(f"expected an IPv6 address in brackets, got {host!r}")
    return inner


def _parse_port(text: str) -> int:
    if not _is_number(text) or int(text) > 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
