"""Which web pages may open a WebSocket: the Origin check (RFC 6455 section 10.2).

A browser sends cookies along with a WebSocket handshake from any page, and CORS does
not apply: without this check every site could speak in the name of a logged-in visitor.

Origins are read as Channels' AllowedHostsOriginValidator reads them, since a project
that comes from it has clients that it let in: native ones write the address that they
dial ("wss://example.com", Starscream) or a URL ("http://example.com/", Go).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from djserve.conf.syntax import OPAQUE_ORIGINS
from djserve.errors import ProtocolError
from djserve.values import Values

if TYPE_CHECKING:
    from collections.abc import Iterable

# What Django allows if DEBUG is on and ALLOWED_HOSTS is empty.
DEBUG_ALLOWED_HOSTS = (".localhost", "127.0.0.1", "[::1]")

_DEFAULT_PORTS = {"http": 80, "https": 443}

# A client that writes the address that it dials means the page's scheme.
_PAGE_SCHEMES = {"ws": "http", "wss": "https"}

# A stranger may make origins up: so many of them have a warning each.
_WARNINGS_LIMIT = 100

logger = logging.getLogger("djserve")


class OriginPolicy(Values):
    """The lists that decide, as in Django's settings.

    ``allowed_hosts`` is ALLOWED_HOSTS: hosts without a port, ".example.com" with all
    subdomains, "*" for any; None, if there is no such setting, stands for the host
    and port that the request was sent to. ``trusted_origins`` is CSRF_TRUSTED_ORIGINS:
    "https://example.com", "https://*.example.com"; "*" turns the check off.
    ``explains`` lets the refusal name the settings.
    """

    allowed_hosts: tuple[str, ...] | None = None
    trusted_origins: tuple[str, ...] = ()
    explains: bool = False


class Origin(NamedTuple):
    """A parsed origin (RFC 6454): lower case, with a known scheme's port filled in."""

    scheme: str
    host: str
    port: int | None


def create_policy(
    allowed_hosts: Iterable[str],
    trusted_origins: Iterable[str] = (),
    *,
    debug: bool = False,
) -> OriginPolicy:
    """Return the policy of a project's settings."""
    hosts = tuple(allowed_hosts)
    if debug and not hosts:
        hosts = DEBUG_ALLOWED_HOSTS
    return OriginPolicy(hosts, tuple(trusted_origins), explains=debug)


class OriginCheck:
    """Refuse the WebSockets of pages that may not open one; name each origin once."""

    __slots__ = ("_policy", "_warned")

    def __init__(self, policy: OriginPolicy) -> None:
        self._policy = policy
        self._warned: set[str] = set()

    def check(self, origin: str, host: str, secure: bool) -> None:
        """Raise ProtocolError (403) for an origin that ``origin_allowed`` refuses.

        The first refusal of an origin is a warning that names the settings: to the
        visitors, the site's live parts are just dead.
        """
        if origin_allowed(origin, host, secure, self._policy):
            return
        level = logging.INFO
        if origin not in self._warned and len(self._warned) < _WARNINGS_LIMIT:
            self._warned.add(origin)
            level = logging.WARNING
        logger.log(level, "%s", explain_refusal(origin, True).decode("ascii"))
        # The page learns nothing about the settings.
        reason = explain_refusal(origin, self._policy.explains).decode("ascii")
        raise ProtocolError(reason, 403)


def origin_allowed(
    origin: str | None, host: str, secure: bool, policy: OriginPolicy
) -> bool:
    """Return whether a page from ``origin`` may open a WebSocket.

    ``host`` is the request's Host, ``secure`` whether it came by TLS. A client without
    an Origin is not a browser and brings no cookies. A page of an allowed host may
    come from any port, and from an app's scheme. One that was loaded without TLS may
    not speak by TLS unless its origin is trusted: anyone on the way could have written
    it. "*" in either list lets in every origin, opaque ones too.
    """
    if origin is None or "*" in policy.trusted_origins:
        return True
    if policy.allowed_hosts is not None and "*" in policy.allowed_hosts:
        return True
    serialised = origin.lower()
    if serialised in OPAQUE_ORIGINS:
        return serialised in policy.trusted_origins
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    if any(_matches_trusted(parsed, trusted) for trusted in policy.trusted_origins):
        return True
    if parsed.scheme == "file" or (secure and parsed.scheme == "http"):
        return False
    if policy.allowed_hosts is None:
        return _is_same_host(parsed, host)
    return any(matches_host(parsed.host, pattern) for pattern in policy.allowed_hosts)


def explain_refusal(origin: str, explains: bool) -> bytes:
    """Return the content of the 403, in ASCII."""
    if not explains:
        return b"Forbidden"
    return (
        f"Origin {origin!r:.200} may not open a WebSocket here. Add its host to "
        f"ALLOWED_HOSTS, or the origin to CSRF_TRUSTED_ORIGINS or to "
        f'DJSERVE["WEBSOCKET_ORIGINS"].'
    ).encode("ascii", "backslashreplace")


def parse_origin(value: str) -> Origin | None:
    """Parse an origin; None for an opaque one and for what is not an origin.

    "ws" counts as "http", "wss" as "https", and one slash may end it.
    """
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname or parts.username is not None:
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    scheme = _PAGE_SCHEMES.get(parts.scheme, parts.scheme)
    return Origin(scheme, parts.hostname, port or _DEFAULT_PORTS.get(scheme))


def _matches_trusted(origin: Origin, trusted: str) -> bool:
    pattern = parse_origin(trusted.lower().replace("://*.", "://.", 1))
    if pattern is None:
        return False
    if (origin.scheme, origin.port) != (pattern.scheme, pattern.port):
        return False
    if pattern.host.startswith("."):
        # As CSRF_TRUSTED_ORIGINS has it, a wildcard takes in the domain itself.
        return matches_host(origin.host, pattern.host)
    return origin.host == pattern.host


def matches_host(host: str, pattern: str) -> bool:
    """Return whether a pattern of ALLOWED_HOSTS but "*" has a host.

    The host is in lower case, an IPv6 address without brackets.
    """
    pattern = pattern.lower().strip("[]")
    if pattern.startswith("."):
        return host.endswith(pattern) or host == pattern[1:]
    return pattern == host and bool(host)


def _is_same_host(origin: Origin, host: str) -> bool:
    return parse_origin(f"{origin.scheme}://{host}") == origin
