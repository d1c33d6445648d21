"""What trusted proxies say of a request: client, scheme, host and port.

Reads X-Forwarded-* or RFC 7239 Forwarded and never raises on what the peer sent: a
header counts from its right end up to the first item that cannot be believed.
"""

# From the right, and no further than trust goes
#
# Every proxy appends to what it got, and the leftmost part is whatever the client has
# written. So a list is read from its right end, where the nearest proxy wrote: its item
# names who connected to that proxy. If that is a trusted proxy as well, its own item is
# the next to the left, and so on. The first address that is not trusted is the client.
# To take the leftmost item instead, as many guides have it, lets any client choose its
# own address, and with it pass every limit and list by address.
#
# An item that is no address ends the walk: nothing to the left of it can be believed,
# since nobody vouches for who wrote it. The client is then the last one that was found.
# For the same reason nothing here raises: a 400 for a malformed header would let a
# client fail requests whose right end is fine.
#
# X-Forwarded-Proto and its like are lists only with some proxies; others overwrite
# them. ``_select`` takes the client's own item if each hop has one, and the nearest
# proxy's otherwise. Which family of headers counts is decided once for a request: a
# proxy that sets one passes the other through unread, so to take the address from one
# and the scheme from the other would mix what a proxy says with what a client does.
#
# The peer's length of all this is bounded before any of it is parsed or kept: the
# caches are keyed by what clients send.

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from djserve.errors import ConfigError
from djserve.postponed import pattern

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network

    from djserve.conf.schema import ProxyConfig
    from djserve.interfaces import ConnectionInfo, Headers, RequestHead

    Address: TypeAlias = IPv4Address | IPv6Address
    Network: TypeAlias = IPv4Network | IPv6Network

CACHE_SIZE = 1024
# Longer than any address with its port: keeps hostile text out of the caches.
NODE_LIMIT = 64
HOST_LIMIT = 261
ELEMENT_LIMIT = 2048

# Items from the right end, the nearest proxy's first; what is farther does not count.
HOPS_LIMIT = 100

PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    # RFC 1918, RFC 6598, RFC 3927; RFC 4193, RFC 4291 section 2.5.6.
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""No router of the internet passes on what has an address of these."""

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

_HOST = pattern(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_PAIR = pattern(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"\\]+))"""
)
_QUOTED_PAIR = pattern(r"\\(.)")


class Node(NamedTuple):
    """One hop: a canonical address, and its port or 0."""

    host: str
    port: int


class TrustedProxies:
    """The peers whose headers are believed.

    ``networks`` holds networks or single addresses, "unix" for unix sockets, "private"
    for ``PRIVATE_NETWORKS``, or "*" for everyone. Raises ConfigError on anything else.
    IPv4-mapped IPv6 counts as IPv4.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self.trusts_all = "*" in networks
        self.trusts_unix = self.trusts_all or "unix" in networks
        named = set(networks) - {"*", "unix"}
        if "private" in named:
            named = named - {"private"} | {*PRIVATE_NETWORKS}
        self._networks = _parse_networks(named)
        # Runs for every request: the cache turns microseconds into nanoseconds.
        self._lookup = lru_cache(maxsize=CACHE_SIZE)(self._is_inside)

    def trusts(self, host: str) -> bool:
        """Return whether an address is a trusted proxy's; False for what is not one."""
        if self.trusts_all:
            return True
        return len(host) <= NODE_LIMIT and self._lookup(host)

    def trusts_peer(self, info: ConnectionInfo) -> bool:
        """Return whether a connection comes from a trusted proxy."""
        if info.is_unix:
            return self.trusts_unix
        return info.client is not None and self.trusts(info.client[0])

    def _is_inside(self, host: str) -> bool:
        # A link-local peer is reported with its zone (RFC 4007 section 11).
        address = _parse_address(host.partition("%")[0])
        return address is not None and any(address in net for net in self._networks)


class Forwarded:
    """What the nearest trusted proxies say; None if they say nothing.

    ``scheme`` is "http" or "https", also for a WebSocket. ``host`` is the Host field
    value that the client sent. ``port`` is the port that the client connected to.
    """

    __slots__ = ("client", "host", "port", "scheme")

    def __init__(
        self,
        client: tuple[str, int] | None = None,
        scheme: str | None = None,
        host: bytes | None = None,
        port: int | None = None,
    ) -> None:
        self.client = client
        self.scheme = scheme
        self.host = host
        self.port = port

    def replace_host(self, headers: Headers) -> Headers:
        """Return the headers with the forwarded Host: a new list if it changes."""
        if self.host is None:
            return headers
        kept = [field for field in headers if field[0] != b"host"]
        return [(b"host", self.host), *kept]

    def server(self, info: ConnectionInfo) -> tuple[str, int | None] | None:
        """Return the scope's ``server``: the connection's, with the forwarded port."""
        if self.port is None or info.server is None or info.server[1] is None:
            return info.server
        return (info.server[0], self.port)


class ProxyHeaders:
    """Read the headers that the configured proxies set."""

    def __init__(self, config: ProxyConfig) -> None:
        self._enabled = config.proxy_headers
        self._trusted = TrustedProxies(config.trusted_proxies)
        self._for = config.proxy_headers_host.lower().encode("latin-1", "replace")
        self._port = config.proxy_headers_port.lower().encode("latin-1", "replace")
        self._names = {self._for, self._port, b"x-forwarded-proto", b"x-forwarded-host"}
        self._wanted = self._names | {b"forwarded"}

    def apply(self, head: RequestHead, info: ConnectionInfo) -> Forwarded | None:
        """Return what the headers say; None from a stranger or without any."""
        if not self._enabled or not self._trusted.trusts_peer(info):
            return None
        fields: dict[bytes, list[str]] = {}
        for name, value in head.headers:
            if name in self._wanted:
                # Lines of one name are one list in their order (RFC 9110 section 5.3).
                text = value.decode("latin-1")
                items = fields.get(name, []) + text.rsplit(",", HOPS_LIMIT)
                fields[name] = items[-HOPS_LIMIT:]
        return self._read(fields) if fields else None

    def _read(self, fields: dict[bytes, list[str]]) -> Forwarded:
        # The two families are never mixed: a proxy that knows one passes the other
        # through as the client wrote it.
        if self._for != b"forwarded" and not self._names.isdisjoint(fields):
            return self._read_x_forwarded(fields)
        return self._read_forwarded(_strip(fields.get(b"forwarded", [])))

    def _read_x_forwarded(self, fields: dict[bytes, list[str]]) -> Forwarded:
        hops = _strip(fields.get(self._for, []))
        client, index = self._walk(hops)

        def value_of(name: bytes) -> str:
            items = fields.get(name)
            return _select(_strip(items), len(hops), index) if items else ""

        host = _parse_host(value_of(b"x-forwarded-host"))
        return Forwarded(
            client,
            SCHEMES.get(value_of(b"x-forwarded-proto").lower()),
            host.value,
            _parse_port(value_of(self._port)) or host.port,
        )

    def _walk(self, hops: list[str]) -> tuple[Node | None, int]:
        """Go left past trusted hops: the client and its index, or (None, -1)."""
        client, index = None, -1
        for position in range(len(hops) - 1, -1, -1):
            node = parse_node(hops[position])
            if node is None:
                break
            client, index = node, position
            if not self._trusted.trusts(node.host):
                break
        return client, index

    def _read_forwarded(self, elements: list[str]) -> Forwarded:
        """Go left as ``_walk`` does; scheme and host are from the last element."""
        client: Node | None = None
        said: dict[str, str] = {}
        for text in reversed(elements):
            element = parse_element(text)
            if element is None:
                break
            node = parse_node(element.get("for", ""))
            if node is None and not _is_hidden(element.get("for", "")):
                break
            said = element
            if node is None:
                break
            client = node
            if not self._trusted.trusts(node.host):
                break
        host = _parse_host(said.get("host", ""))
        scheme = SCHEMES.get(said.get("proto", "").lower())
        return Forwarded(client, scheme, host.value, host.port)


def parse_node(text: str) -> Node | None:
    """Parse ``1.2.3.4``, ``1.2.3.4:567``, ``::1``, ``[::1]`` or ``[::1]:567``.

    Returns None for anything else, also for "unknown" and for obfuscated names.
    """
    return _parse_node(text) if len(text) <= NODE_LIMIT else None


def parse_element(text: str) -> dict[str, str] | None:
    """Parse one forwarded-element (RFC 7239 section 4); None if it is malformed.

    No parameter that counts contains a comma or a semicolon, so a quoted string with
    one is malformed: an open quote from a client cannot swallow what a proxy added.
    """
    element: dict[str, str] = {}
    if len(text) > ELEMENT_LIMIT:
        return None
    for pair in text.split(";"):
        match = _PAIR.fullmatch(pair.strip(" \t"))
        if match is None:
            return None
        name, quoted, bare = match.groups()
        value = bare if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        if name.lower() in element:
            return None
        element[name.lower()] = value
    return element


@lru_cache(maxsize=CACHE_SIZE)
def _parse_node(text: str) -> Node | None:
    host, port = _split_port(text)
    address = None if host is None else _parse_address(host)
    if address is None or port is None:
        return None
    return Node(str(address), port)


def _split_port(text: str) -> tuple[str | None, int | None]:
    """Split off the port: 0 if there is none, None if it is malformed."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host:
            return None, None
        return host, _parse_node_port(rest)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, _parse_node_port(f":{port}")
    return text, 0


def _is_hidden(text: str) -> bool:
    # RFC 7239 section 6: a proxy may keep the address to itself, or not know it.
    return not text or text.startswith("_") or text.lower() == "unknown"


def _parse_node_port(text: str) -> int | None:
    if not text:
        return 0
    # RFC 7239 section 6.3: the port of a node may be obfuscated too.
    if text.startswith(":_"):
        return 0
    return _parse_port(text[1:]) if text.startswith(":") else None


def _parse_port(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        return None
    port = int(text)
    return port if 0 < port <= 65535 else None


class _Host(NamedTuple):
    value: bytes | None
    port: int | None


_NO_HOST = _Host(None, None)


def _parse_host(text: str) -> _Host:
    match = _HOST.fullmatch(text) if 0 < len(text) <= HOST_LIMIT else None
    if match is None:
        return _NO_HOST
    if match[1] is None:
        return _Host(text.encode("ascii"), None)
    port = _parse_port(match[1])
    return _NO_HOST if port is None else _Host(text.encode("ascii"), port)


def _parse_address(text: str) -> Address | None:
    # A zone means something on the machine that wrote it only.
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _parse_networks(texts: set[str]) -> list[Network]:
    networks, problems = [], []
    for text in sorted(texts):
        try:
            networks.append(_unmap(ip_network(text, strict=False)))
        except ValueError:
            problems.append(
                f"Trusted proxy {text!r}: expected an address, a network such as "
                '10.0.0.0/8, "private", "unix" or "*".'
            )
    if problems:
        raise ConfigError(problems)
    return networks


def _unmap(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ip_network((mapped, network.prefixlen - 96))
    return network


def _strip(items: list[str]) -> list[str]:
    # RFC 9110 section 5.6.1.2: empty list elements do not count.
    return [item for text in items if (item := text.strip(" \t"))]


def _select(values: list[str], hop_count: int, index: int) -> str:
    """Take the hop's own value if each hop has one, else the nearest proxy's."""
    if not values:
        return ""
    parallel = len(values) == hop_count and index >= 0
    return values[index] if parallel else values[-1]
