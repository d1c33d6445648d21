"""Twisted endpoints that put something before TLS, as a plugin may.

``behindproxy:`` reads a header of the PROXY protocol in the clear, ``starttls:`` a line
that asks for TLS. Both take the file of a certificate and its key, and a port.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import twisted.plugins
from twisted.internet import interfaces, ssl
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.plugin import IPlugin
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer  # type: ignore[import-untyped]

REQUEST = b"STARTTLS\r\n"

Wrap = Callable[[Any, Any, Any], Any]

_tls_factory: Callable[..., Any] = TLSMemoryBIOFactory
_wrapping_factory: Callable[[Any], Any] = WrappingFactory
_proxy_factory: Callable[[Any], Any] = HAProxyWrappingFactory
_load: Callable[[bytes], Any] = ssl.PrivateCertificate.loadPEM


class StartTLS(ProtocolWrapper):
    """Ask for a line first, and begin TLS then."""

    factory: Any
    transport: Any
    _line = b""

    def dataReceived(self, data: bytes) -> None:
        if self._line == REQUEST:
            super().dataReceived(data)
            return
        self._line += data
        if self._line == REQUEST:
            self.transport.startTLS(self.factory.context)
        elif not REQUEST.startswith(self._line):
            self.transport.loseConnection()


def _behind_proxy(reactor: Any, context: Any, factory: Any) -> Any:
    return _proxy_factory(_tls_factory(context, False, factory, reactor))


def _start_tls(reactor: Any, context: Any, factory: Any) -> Any:
    wrapping = _wrapping_factory(factory)
    wrapping.protocol = StartTLS
    wrapping.context = context
    return wrapping


@implementer(interfaces.IStreamServerEndpoint)
class _Endpoint:
    def __init__(self, reactor: Any, wrap: Wrap, pem: str, port: str) -> None:
        self._reactor = reactor
        self._wrap = wrap
        self._context = _load(Path(pem).read_bytes()).options()
        self._below = TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")

    def listen(self, factory: Any) -> Any:
        return self._below.listen(self._wrap(self._reactor, self._context, factory))


@implementer(IPlugin, interfaces.IStreamServerEndpointStringParser)
class _Parser:
    def __init__(self, prefix: str, wrap: Wrap) -> None:
        self.prefix = prefix
        self._wrap = wrap

    def parseStreamServer(self, reactor: Any, *args: str) -> Any:
        return _Endpoint(reactor, self._wrap, *args)


behind_proxy = _Parser("behindproxy", _behind_proxy)
starttls = _Parser("starttls", _start_tls)


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have Twisted find the endpoints, by a plugin in a folder."""
    source = "from tests.e2e.upgrades import behind_proxy, starttls\n"
    (folder / "upgrading_endpoints.py").write_text(source)
    patch.setattr(twisted.plugins, "__path__", [str(folder), *twisted.plugins.__path__])
