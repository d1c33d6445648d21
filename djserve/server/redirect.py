"""Plain http on a separate address: each request is redirected to https.

It is answered without the application, so that no view is ever reached without TLS.
The host is checked before it is named in an answer: what a client makes up, a cache in
between could keep for others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from djserve.acme.challenges import read_challenge
from djserve.asgi.origin import matches_host
from djserve.conf.loader import are_settings_loaded, read_hsts_seconds
from djserve.postponed import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djserve.conf.schema import ACMEConfig, RedirectConfig
    from djserve.interfaces import Headers, RequestHead, Stream

_DEFAULT_PORT = 443

# RFC 8555 section 8.3.
_CHALLENGE = b"/.well-known/acme-challenge/"

# As Django reads a Host, so that what passes here is not refused behind it.
_HOST = pattern(
    r"([a-z0-9.-]+|\[[a-f0-9]*:[a-f0-9.:]+\])(?::[0-9]{1,5})?", re.IGNORECASE
)

# What a Location may hold of a request's target (RFC 3986 section 3.3 and 3.4, and
# what clients send beside it).
_UNUSUAL = pattern(rb"[^!#-;=?-\[\]_a-z~]")


class Redirect:
    """Where the requests of the plain addresses are sent.

    ``allowed_hosts`` is ALLOWED_HOSTS; None, without Django, allows every host. With
    ``acme``, the challenges of a certificate authority are answered here.
    """

    def __init__(
        self,
        allowed_hosts: Sequence[str] | None,
        port: int | None,
        acme: ACMEConfig | None = None,
    ) -> None:
        self._acme = acme if acme is not None and acme.acme_domains else None
        self._allowed_hosts = allowed_hosts
        self._port = "" if port in (None, _DEFAULT_PORT) else f":{port}"

    def answer(self, head: RequestHead) -> tuple[int, Headers, bytes]:
        """Return the status, the fields and the content of the answer."""
        if self._acme is not None and head.raw_path.startswith(_CHALLENGE):
            return _answer_challenge(self._acme, head)
        host = self._find_host(head.headers)
        if host is None or head.raw_path[:1] != b"/":
            return _refuse(b"Bad Request: no https site of this name is here\n")
        target = head.raw_path
        if head.query:
            target += b"?" + head.query
        target = _UNUSUAL.sub(lambda found: b"%%%02X" % found[0][0], target)
        location = f"https://{host}{self._port}".encode("ascii") + target
        # RFC 9110 section 15.4.9: 308 keeps the method and its content, which clients
        # may change after 301; that is known to more of them.
        status = 301 if head.method in ("GET", "HEAD") else 308
        return status, [(b"location", location), (b"content-length", b"0")], b""

    def _find_host(self, headers: Headers) -> str | None:
        """Return the host that was asked for, without its port; None if refused."""
        given = next((value for name, value in headers if name == b"host"), b"")
        match = _HOST.fullmatch(given.decode("latin-1"))
        if match is None:
            return None
        host = match[1].lower().removesuffix(".")
        if self._allowed_hosts is None or "*" in self._allowed_hosts:
            return host
        bare = host.strip("[]")
        is_allowed = any(matches_host(bare, each) for each in self._allowed_hosts)
        return host if is_allowed else None


class RedirectExchange:
    """Answer one request with a redirect (interfaces.Exchange)."""

    __slots__ = ("_answer", "_finish", "_has_ended", "_stream")

    def __init__(
        self,
        answer: tuple[int, Headers, bytes],
        stream: Stream,
        finish: Callable[[int], object],
    ) -> None:
        self._answer = answer
        self._stream = stream
        self._finish = finish
        self._has_ended = False

    @property
    def is_running(self) -> bool:
        """Whether the answer is still to be sent."""
        return not self._has_ended

    def start(self) -> None:
        """Answer."""
        status, headers, content = self._answer
        self._end(status)
        self._stream.send_response(status, headers, content, more=False)

    def data_received(self, data: bytes) -> None:
        """Drop a request's content: the client sends it again, by https."""

    def eof_received(self) -> None:
        """Nothing to do: the content has no use."""

    def pause_writing(self) -> None:
        """Nothing to do: an answer is a few hundred bytes."""

    def resume_writing(self) -> None:
        """Nothing to do."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before the answer."""
        if not self._has_ended:
            self._end(0)

    def tick(self, now: float) -> None:
        """Nothing to do: the connection has the timeouts."""

    def drain(self) -> None:
        """Nothing to do: the answer is sent at once."""

    def _end(self, status: int) -> None:
        self._has_ended = True
        self._finish(status)


def describe_redirect(config: RedirectConfig) -> list[str]:
    """Return the lines of the start-up message: what is redirected, and a hint."""
    addresses = config.redirect_http
    if not addresses:
        return []
    lines = [f"Redirecting http on {', '.join(addresses)} to https"]
    if are_settings_loaded() and not read_hsts_seconds():
        lines.append(
            "Hint: SECURE_HSTS_SECONDS is 0, so browsers ask by plain http again each "
            "time; once https works for good, set it (an hour first, then a year)"
        )
    return lines


def _answer_challenge(
    config: ACMEConfig, head: RequestHead
) -> tuple[int, Headers, bytes]:
    token = head.raw_path.removeprefix(_CHALLENGE).decode("latin-1")
    content = read_challenge(config, token)
    if content is None or head.method not in ("GET", "HEAD"):
        return 404, [(b"content-length", b"0")], b""
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % len(content)),
    ]
    return 200, headers, content if head.method == "GET" else b""


def _refuse(reason: bytes) -> tuple[int, Headers, bytes]:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(reason)),
    ]
    return 400, headers, reason
