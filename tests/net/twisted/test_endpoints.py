from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trustme

from djserve.interfaces import ConnectionInfo
from djserve.net.twisted.endpoints import EndpointConnection, listen_on_endpoint
from djserve.net.twisted.reactor import Reactor
from tests.e2e import upgrades
from tests.support.waiting import settle, settle_with_data

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:X509:DeprecationWarning"),
]

Run = Callable[..., Any]

PROXY = "haproxy:tcp:0:interface=127.0.0.1"
HEADER = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"


class Receiver:
    def __init__(self, transport: Any, info: ConnectionInfo) -> None:
        self.transport = transport
        self.info = info
        self.data = b""
        self.received = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.received.set()

    def eof_received(self) -> None:
        """Let the connection close."""

    def pause_writing(self) -> None:
        """Nothing is written here that could fill a buffer."""

    def resume_writing(self) -> None:
        """See ``pause_writing``."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Link:
    """A receiver behind an endpoint, and the streams of its peer."""

    receiver: Receiver

    def __init__(self, reactor: Reactor, text: str, first: bytes = b"") -> None:
        self._reactor = reactor
        self._text = text
        self._first = first

    async def __aenter__(self) -> Link:
        opened: asyncio.Future[Receiver] = asyncio.get_running_loop().create_future()

        def open_connection(transport: Any, info: ConnectionInfo) -> Any:
            opened.set_result(Receiver(transport, info))
            return opened.result()

        address, self._close = await listen_on_endpoint(
            self._reactor, self._text, open_connection, 60.0, ["http/1.1"]
        )
        host, port = address.split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        self.writer.write(self._first)
        self.receiver = await opened
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        self._close()


def test_proxy_protocol_tells_the_addresses(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, PROXY, HEADER + b"hello") as link:
            await link.receiver.received.wait()
            assert link.receiver.data == b"hello"
            assert link.receiver.info.client == ("1.2.3.4", 9)
            assert link.receiver.info.server == ("5.6.7.8", 10)

    run_on_reactor(scenario)


def test_plain_endpoint_has_nothing_between(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, "tcp:0:interface=127.0.0.1") as link:
            assert not isinstance(link.receiver.transport, EndpointConnection)

    run_on_reactor(scenario)


def test_transport_of_a_wrapped_endpoint_does_what_a_native_one_does(
    run_on_reactor: Run,
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, PROXY, HEADER + b"x") as link:
            transport = link.receiver.transport
            assert isinstance(transport, EndpointConnection)
            successor = Receiver(transport, link.receiver.info)
            transport.set_protocol(successor)
            transport.pause_reading()
            link.writer.write(b"held")
            await settle_with_data(transport.transport.fileno())
            assert successor.data == b""
            transport.resume_reading()
            await successor.received.wait()
            assert transport.get_write_buffer_size() == 0
            assert transport.can_write_eof()
            transport.write(b"answer")
            transport.write_eof()
            assert await link.reader.read() == b"answer"
            transport.close()
            assert await successor.lost is None

    run_on_reactor(scenario)


def test_abort_ends_a_wrapped_endpoint_regularly(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, PROXY, HEADER + b"x") as link:
            link.receiver.transport.abort()
            assert await link.receiver.lost is None

    run_on_reactor(scenario)


def test_silence_before_the_proxy_header_is_cut_off(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        opened: list[object] = []

        def open_connection(transport: Any, info: ConnectionInfo) -> Any:
            opened.append(transport)

        address, close = await listen_on_endpoint(
            reactor, PROXY, open_connection, 0.05, ["http/1.1"]
        )
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert opened == []
        writer.close()
        close()

    run_on_reactor(scenario)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Accepted:
    """An endpoint that waits for one connection."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[Receiver] = (
            asyncio.get_running_loop().create_future()
        )

    async def listen(self, reactor: Reactor, text: str, *alpn: str) -> int:
        address, self.close = await listen_on_endpoint(
            reactor, text, self._open, 60.0, alpn
        )
        return int(address.rpartition(":")[2])

    def _open(self, transport: Any, info: ConnectionInfo) -> Any:
        self.opened.set_result(Receiver(transport, info))
        return self.opened.result()


# Older releases ask the wrapping factory alone, and serve such clients without ALPN.
@pytest.mark.skipif(
    find_spec("twisted.protocols._tls_legacy") is None, reason="an older Twisted"
)
def test_proxy_header_within_tls_leaves_alpn(
    run_on_reactor: Run, pem: Path, context: ssl.SSLContext
) -> None:
    context.set_alpn_protocols(["h2", "http/1.1"])
    text = f"haproxy:ssl:0:privateKey={pem}:certKey={pem}:interface=127.0.0.1"

    async def scenario(reactor: Reactor) -> None:
        accepted = Accepted()
        port = await accepted.listen(reactor, text, "h2", "http/1.1")
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(HEADER + b"x")
        receiver = await accepted.opened
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        assert receiver.info.alpn == "h2"
        assert receiver.info.tls is not None
        assert receiver.info.client == ("1.2.3.4", 9)
        writer.transport.abort()
        await receiver.lost
        accepted.close()

    run_on_reactor(scenario)


def test_connection_that_has_begun_tls_is_one(
    run_on_reactor: Run,
    pem: Path,
    context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    upgrades.install(tmp_path, monkeypatch)

    async def scenario(reactor: Reactor) -> None:
        accepted = Accepted()
        port = await accepted.listen(reactor, f"starttls:{pem}:0")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upgrades.REQUEST)
        # TLS would come with the line.
        await settle()
        await writer.start_tls(context)
        writer.write(b"x")
        receiver = await accepted.opened
        assert receiver.info.tls is not None
        assert receiver.info.tls["tls_version"] == 0x0304
        assert not receiver.transport.can_write_eof()
        writer.transport.abort()
        await receiver.lost
        accepted.close()

    run_on_reactor(scenario)
