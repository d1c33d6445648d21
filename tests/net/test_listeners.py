from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from djserve.errors import ListenError
from djserve.interfaces import ConnectionInfo
from djserve.net.address import TCPAddress
from djserve.net.descriptors import DescriptorWatch
from djserve.net.listeners import Listener, open_listener_on, open_listeners
from djserve.net.sockets import open_sockets
from djserve.net.tls import server_context
from djserve.net.twisted.reactor import Reactor
from tests.support.waiting import settle_with_data

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]


class Recorder:
    """A receiver that echoes, and keeps what it was told."""

    def __init__(self, transport: Any, info: ConnectionInfo) -> None:
        self.transport = transport
        self.info = info
        self.events: list[object] = []
        self.lost: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.keeps_open = False

    def data_received(self, data: bytes) -> None:
        self.events.append(data)
        self.transport.write(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Server:
    """Listeners on one address, and the receivers that they opened."""

    def __init__(self, receiver: Callable[..., Any] = Recorder) -> None:
        self.listeners: list[Listener] = []
        self.opened: asyncio.Queue[Any] = asyncio.Queue()
        self._receiver = receiver

    def open_connection(self, transport: Any, info: ConnectionInfo) -> Any:
        receiver = self._receiver(transport, info)
        self.opened.put_nowait(receiver)
        return receiver

    async def listen(self, reactor: Reactor, address: str, **options: Any) -> str:
        options.setdefault("backlog", 10)
        self.listeners = await open_listeners(
            reactor, address, self.open_connection, **options
        )
        return self.listeners[0].address

    def stop(self) -> None:
        for listener in self.listeners:
            listener.stop()


async def connect(address: str, **options: Any) -> Any:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), **options)


def connected(address: str) -> socket.socket:
    """Return a connected socket, without a turn of the loop."""
    if not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        return socket.create_connection((host, int(port)), 60)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address.removeprefix("unix:"))
    return sock


ADDRESSES = ["127.0.0.1:0", "[::1]:0", "tcp:0:interface=127.0.0.1"]


@pytest.fixture
def text(request: pytest.FixtureRequest) -> str:
    """An address that this machine has."""
    if request.param.startswith("["):
        request.getfixturevalue("require_ipv6")
    return str(request.param)


@pytest.mark.parametrize("text", ADDRESSES, indirect=True)
def test_connection_reaches_the_receiver_and_back(
    run_on_reactor: Run, text: str
) -> None:
    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, text)
        reader, writer = await connect(address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        receiver = await server.opened.get()
        writer.close()
        assert await receiver.lost is None
        assert receiver.events == [b"hello", "eof"]
        host, port = address.rsplit(":", 1)
        assert receiver.info.server == (host.strip("[]"), int(port))
        assert receiver.info.client[0] == host.strip("[]")
        assert (receiver.info.tls, receiver.info.is_unix) == (None, False)
        server.stop()

    run_on_reactor(scenario)


def test_all_interfaces_tell_which_address_was_connected_to(
    run_on_reactor: Run,
) -> None:
    async def scenario(reactor: Reactor) -> None:
        server = Server()
        _, port = (await server.listen(reactor, "0.0.0.0:0")).rsplit(":", 1)
        for host in ("127.0.0.1", "127.0.0.2"):
            _, writer = await connect(f"{host}:{port}")
            receiver = await server.opened.get()
            assert receiver.info.server == (host, int(port))
            writer.close()
        server.stop()

    run_on_reactor(scenario)


@pytest.mark.parametrize("options", ["", ":mode=600"])
def test_unix_socket_serves_and_is_unlinked(
    run_on_reactor: Run, tmp_path: Path, options: str
) -> None:
    path = tmp_path / "s"

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, f"unix:{path}{options}")
        assert address == f"unix:{path}"
        reader, writer = await connect(address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        info = (await server.opened.get()).info
        assert (info.client, info.server, info.is_unix) == (
            None,
            (str(path), None),
            True,
        )
        writer.close()
        server.stop()

    run_on_reactor(scenario)

    assert not path.exists()


def test_bytes_sent_with_the_connection_are_not_lost(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, "127.0.0.1:0")
        host, port = address.split(":")
        # The whole life of the connection is over before the loop accepts it.
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"at once")
        receiver = await server.opened.get()
        assert await receiver.lost is None
        assert receiver.events == [b"at once", "eof"]
        server.stop()

    run_on_reactor(scenario)


def test_receiver_that_closes_at_once_gets_the_end(run_on_reactor: Run) -> None:
    class Refuser(Recorder):
        def __init__(self, transport: Any, info: ConnectionInfo) -> None:
            super().__init__(transport, info)
            transport.write(b"full")
            transport.close()

    async def scenario(reactor: Reactor) -> None:
        server = Server(Refuser)
        reader, writer = await connect(await server.listen(reactor, "127.0.0.1:0"))
        assert await reader.read() == b"full"
        assert await (await server.opened.get()).lost is None
        writer.close()
        server.stop()

    run_on_reactor(scenario)


def test_failing_receiver_closes_its_connection_alone(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        reports: list[dict[str, Any]] = []
        reactor.loop.set_exception_handler(lambda _, context: reports.append(context))
        failures = [RuntimeError("no receiver")]

        def receiver(transport: Any, info: ConnectionInfo) -> Recorder:
            if failures:
                raise failures.pop()
            return Recorder(transport, info)

        server = Server(receiver)
        address = await server.listen(reactor, "127.0.0.1:0")
        reader, writer = await connect(address)
        assert await reader.read() == b""
        writer.close()
        assert "no receiver" in str(reports[0]["exception"])
        reader, writer = await connect(address)
        writer.write(b"next")
        assert await reader.readexactly(4) == b"next"
        writer.close()
        server.stop()

    run_on_reactor(scenario)


def test_another_receiver_takes_over_in_the_middle(run_on_reactor: Run) -> None:
    class Switching(Recorder):
        def data_received(self, data: bytes) -> None:
            self.events.append(data)
            self.successor = Recorder(self.transport, self.info)
            self.transport.set_protocol(self.successor)
            self.transport.write(b"switched")

    async def scenario(reactor: Reactor) -> None:
        server = Server(Switching)
        reader, writer = await connect(await server.listen(reactor, "127.0.0.1:0"))
        writer.write(b"one")
        assert await reader.readexactly(8) == b"switched"
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        writer.close()
        receiver = await server.opened.get()
        assert await receiver.successor.lost is None
        assert receiver.events == [b"one"]
        assert receiver.successor.events == [b"two", "eof"]
        server.stop()

    run_on_reactor(scenario)


@pytest.mark.parametrize("text", ["127.0.0.1:0", "haproxy:tcp:0:interface=127.0.0.1"])
def test_full_transport_pauses_and_resumes_the_receiver(
    run_on_reactor: Run, text: str
) -> None:
    size = 16 * 1024 * 1024

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        reader, writer = await connect(await server.listen(reactor, text))
        if text.startswith("haproxy"):
            writer.write(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n")
        writer.write(b"x")
        receiver = await server.opened.get()
        await reader.readexactly(1)
        receiver.transport.write(bytes(size))
        assert receiver.events[-1] == "pause"
        assert receiver.transport.get_write_buffer_size() > 0
        assert await reader.readexactly(size) == bytes(size)
        writer.close()
        await receiver.lost
        assert "resume" in receiver.events
        server.stop()

    run_on_reactor(scenario)


@pytest.mark.parametrize("text", ADDRESSES, indirect=True)
def test_receiver_can_answer_a_peer_that_has_finished_sending(
    run_on_reactor: Run, text: str
) -> None:
    class Answering(Recorder):
        def eof_received(self) -> bool:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, self.transport.write, b"answer")
            loop.call_later(0.02, self.transport.close)
            return True

    async def scenario(reactor: Reactor) -> None:
        server = Server(Answering)
        reader, writer = await connect(await server.listen(reactor, text))
        writer.write_eof()
        assert await reader.read() == b"answer"
        assert await (await server.opened.get()).lost is None
        writer.close()
        server.stop()

    run_on_reactor(scenario)


def test_paused_receiver_gets_nothing_until_it_resumes(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        server = Server()
        reader, writer = await connect(await server.listen(reactor, "127.0.0.1:0"))
        receiver = await server.opened.get()
        receiver.transport.pause_reading()
        writer.write(b"held")
        await settle_with_data(receiver.transport.get_extra_info("socket").fileno())
        assert receiver.events == []
        receiver.transport.resume_reading()
        assert await reader.readexactly(4) == b"held"
        writer.close()
        server.stop()

    run_on_reactor(scenario)


def test_stop_refuses_new_connections_and_keeps_the_old(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, "127.0.0.1:0")
        reader, writer = await connect(address)
        await server.opened.get()
        server.stop()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            await connect(address)
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.close()

    run_on_reactor(scenario)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize(
    "scheme", ["tcp", "unix", "tls", "proxy", "endpoint", "ssl endpoint"]
)
def test_stop_accepts_first_what_the_kernel_holds(
    run_on_reactor: Run,
    authority: trustme.CA,
    certificate: Path,
    tmp_path: Path,
    scheme: str,
) -> None:
    text = f"unix:{tmp_path}/s" if scheme == "unix" else "127.0.0.1:0"
    options: dict[str, Any] = {}
    client: dict[str, Any] = {}
    if scheme == "tls":
        options["ssl_context"] = server_context(str(certificate))
    elif scheme == "endpoint":
        text = "tcp:0:interface=127.0.0.1"
    elif scheme == "ssl endpoint":
        text = f"ssl:0:interface=127.0.0.1:privateKey={certificate}"
    if scheme in ("tls", "ssl endpoint"):
        client = {"ssl": client_context(authority), "server_hostname": "localhost"}
    if scheme == "proxy":
        options["trusts_proxy"] = lambda host: True

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, text, **options)
        # The loop gets no turn to accept until the stop.
        waiting = [connected(address) for _ in range(10)]
        for listener in server.listeners:
            listener.stop(take_waiting=True)
        assert server.listeners[0].opening_count == len(waiting)
        for sock in waiting:
            if scheme == "proxy":
                sock.sendall(b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n")
            reader, writer = await asyncio.open_connection(sock=sock, **client)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
        assert server.listeners[0].opening_count == 0

    run_on_reactor(scenario)


def test_listeners_of_uvloop_are_told_of_shortages(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        server = Server()
        watch = DescriptorWatch()
        await server.listen(reactor, "127.0.0.1:0", descriptors=watch)
        is_asyncio = isinstance(reactor.loop, asyncio.BaseEventLoop)
        assert len(watch.accepting) == (0 if is_asyncio else 1)
        server.stop()

    run_on_reactor(scenario)


def test_socket_that_is_bound_already_is_served(run_on_reactor: Run) -> None:
    (sock,) = open_sockets(TCPAddress("127.0.0.1", 0), backlog=5)

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        listener = open_listener_on(reactor, sock, server.open_connection, backlog=5)
        reader, writer = await connect(listener.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        listener.stop()

    run_on_reactor(scenario)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("localhost", "without a port"),
        ("tcp:0:interface=192.0.2.1", "Cannot assign"),
        ("tcp:0:colour=red", "colour"),
        ("tcp:eighty", "eighty"),
        ("ssl:0:privateKey=/missing.pem", "missing.pem"),
        (f"ssl:0:privateKey={__file__}:certKey={__file__}", "not usable"),
        ("unheard:of=1", "unheard"),
    ],
)
def test_unusable_address_is_a_listen_error(
    run_on_reactor: Run, text: str, reason: str
) -> None:
    async def scenario(reactor: Reactor) -> None:
        with pytest.raises(ListenError, match=reason) as caught:
            await Server().listen(reactor, text)
        assert caught.value.address == text

    run_on_reactor(scenario)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80/"),
        ("0.0.0.0:80", "http://127.0.0.1:80/"),
        ("[::]:80", "http://[::1]:80/"),
        ("unix:/run/s", "unix:/run/s"),
    ],
)
def test_url_is_where_a_browser_on_this_machine_finds_it(
    address: str, url: str
) -> None:
    assert Listener(address, lambda: None, tls=False).url == url


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80/"),
        ("0.0.0.0:80", "http://127.0.0.1:80/ (all IPv4 addresses, 0.0.0.0)"),
        ("[::]:80", "http://[::1]:80/ (all IPv6 addresses, [::])"),
        ("unix:/run/s", "unix:/run/s"),
    ],
)
def test_place_names_all_addresses(address: str, place: str) -> None:
    assert Listener(address, lambda: None, tls=False).place == place


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("text", ["127.0.0.1:0", "ssl:0:interface=127.0.0.1"])
def test_tls_connection_is_described(
    run_on_reactor: Run, authority: trustme.CA, certificate: Path, text: str
) -> None:
    options: dict[str, Any] = {"alpn": ["h2", "http/1.1"]}
    pem = certificate.read_text()
    if text.startswith("ssl"):
        text = f"{text}:privateKey={certificate}"
    else:
        options["ssl_context"] = server_context(str(certificate), alpn=["h2"])

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, text, **options)
        reader, writer = await connect(
            address, ssl=client_context(authority), server_hostname="localhost"
        )
        writer.write(b"secret")
        assert await reader.readexactly(6) == b"secret"
        info = (await server.opened.get()).info
        assert info.alpn == "h2"
        assert info.tls["tls_version"] == 0x0304
        assert info.tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
        assert info.tls["server_cert"] in pem
        assert info.tls["client_cert_chain"] == []
        assert server.listeners[0].url == f"https://{address}/"
        writer.close()
        await writer.wait_closed()
        server.stop()

    run_on_reactor(scenario)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("text", ["127.0.0.1:0", "ssl:0:interface=127.0.0.1"])
def test_silent_tls_client_is_closed(
    run_on_reactor: Run, certificate: Path, text: str
) -> None:
    options: dict[str, Any] = {"handshake_timeout": 0.1}
    if text.startswith("ssl"):
        text = f"{text}:privateKey={certificate}"
    else:
        options["ssl_context"] = server_context(str(certificate))

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        reader, writer = await connect(await server.listen(reactor, text, **options))
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        assert server.opened.empty()
        writer.close()
        server.stop()

    run_on_reactor(scenario)


def test_client_certificate_is_described(
    run_on_reactor: Run, authority: trustme.CA, certificate: Path
) -> None:
    context = server_context(str(certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    client = client_context(authority)
    authority.issue_cert("client.example", common_name="Ann").configure_cert(client)

    async def scenario(reactor: Reactor) -> None:
        server = Server()
        address = await server.listen(reactor, "127.0.0.1:0", ssl_context=context)
        reader, writer = await connect(address, ssl=client, server_hostname="localhost")
        writer.write(b"x")
        await reader.readexactly(1)
        tls = (await server.opened.get()).info.tls
        assert tls["client_cert_name"].startswith("CN=Ann,")
        assert tls["client_cert_chain"][0].startswith("-----BEGIN CERTIFICATE-----")
        assert tls["client_cert_error"] is None
        writer.close()
        await writer.wait_closed()
        server.stop()

    run_on_reactor(scenario)
