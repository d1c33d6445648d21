"""What the soak's clients count, and where they connect to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT = 60.0
"""Seconds until an answer that does not come counts as a failure."""

RESTART = 1012
"""The close code that says "come back" (RFC 6455's registry: Service Restart)."""


@dataclass(frozen=True)
class Target:
    """A server's port, and its certificate where it has one."""

    port: int
    certificate: Path | None

    def tls(self, protocol: str = "http/1.1") -> ssl.SSLContext | None:
        """Return a context that trusts the certificate; None where there is none."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        context.set_alpn_protocols([protocol])
        return context

    async def dial(self) -> socket.socket:
        """Connect; the socket's own port tells later which worker had accepted it."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(
                sock, ("127.0.0.1", self.port)
            )
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


@dataclass(frozen=True)
class Failure:
    """A request or a WebSocket that did not go well, and its connection's port."""

    protocol: str
    reason: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} from port {self.port}: {self.reason}"


@dataclass
class Tally:
    """All clients' counts: requests by protocol, what else happened, failures."""

    requests: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    resets: int = 0

    def answered(self, protocol: str) -> None:
        self.requests[protocol] += 1

    def closed(self, code: int, port: int) -> None:
        """Note how the server closed a WebSocket; 1006 stands for no close frame."""
        self.codes[code] += 1
        if code != RESTART:
            self.failures.append(Failure("WebSocket", f"closed with {code}", port))

    def failed(self, protocol: str, error: BaseException, port: int) -> None:
        """Note a request without its answer."""
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            self.resets += 1
        notes = " ".join(getattr(error, "__notes__", ()))
        reason = f"{type(error).__name__} {error} {notes}".strip()
        self.failures.append(Failure(protocol, reason, port))
