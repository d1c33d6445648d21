from __future__ import annotations

import asyncio
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, endpoints, error, interfaces, protocol, threads
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Factory, Protocol
from twisted.internet.task import Cooperator
from twisted.protocols.basic import LineReceiver
from twisted.web import client, resource, server
from zope.interface.verify import verifyObject  # type: ignore[import-untyped]

from djserve.net.main_loop import new_event_loop
from djserve.net.twisted.reactor import Reactor
from tests.support.waiting import settle

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]

SETUP = """
import sys
from djserve.net.twisted.reactor import Reactor, install
assert "twisted.internet.reactor" not in sys.modules
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SETUP + code],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_install_makes_the_global_reactor_once() -> None:
    result = run_python("""
first = install()
from twisted.internet import reactor
assert reactor is first and isinstance(reactor, Reactor)
assert install() is first and install(first.loop) is first
first.dispose()
""")

    assert (result.returncode, result.stderr) == (0, "")


def test_install_names_the_reactor_that_is_in_the_way() -> None:
    result = run_python("""
from twisted.internet import selectreactor
selectreactor.install()
install()
""")

    assert "ConfigError: Another Twisted reactor is installed" in result.stderr
    assert "SelectReactor" in result.stderr


def test_installed_reactor_runs_until_sigterm_and_reaps_processes() -> None:
    result = run_python("""
import os, signal
reactor = install()
from twisted.internet.protocol import ProcessProtocol

class Child(ProcessProtocol):
    def processEnded(self, reason):
        print("child", reason.value.exitCode)
        os.kill(os.getpid(), signal.SIGTERM)

reactor.callWhenRunning(
    reactor.spawnProcess, Child(), sys.executable, [sys.executable, "-c", "exit(7)"]
)
reactor.callLater(120, os._exit, 1)
reactor.run()
print("stopped")
""")

    assert result.stdout == "child 7\nstopped\n"


def test_reactor_is_thrown_away_without_a_trace() -> None:
    # In a process where nobody else opens files; uvloop and Twisted keep some.
    result = run_python("""
import os, threading
from twisted.internet.protocol import Factory, Protocol
from djserve.net.main_loop import new_event_loop

def use_reactor(prefer_uvloop):
    reactor = Reactor(new_event_loop(prefer_uvloop=prefer_uvloop))
    reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    reactor.callWhenRunning(reactor.callLater, 0.01, reactor.stop)
    thread = threading.Thread(target=reactor.run, args=(False,))
    thread.start()
    thread.join()
    reactor.dispose()
    return len(os.listdir("/proc/self/fd"))

print(len({use_reactor(prefer_uvloop) for prefer_uvloop in (True, False, True)}))
""")

    assert result.stdout == "1\n"


def test_reactor_that_is_not_installed_leaves_the_global_one_alone() -> None:
    result = run_python("""
import djserve.net.listeners
reactor = Reactor()
reactor.callLater(0, reactor.stop)
reactor.run()
reactor.dispose()
assert "twisted.internet.reactor" not in sys.modules
""")

    assert (result.returncode, result.stderr) == (0, "")


def test_uvloop_is_preferred_and_can_be_refused() -> None:
    preferred, refused = new_event_loop(), new_event_loop(prefer_uvloop=False)

    assert type(preferred).__module__.startswith("uvloop")
    assert isinstance(refused, asyncio.SelectorEventLoop)
    preferred.close()
    refused.close()


class Echo(LineReceiver):
    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line[::-1])


class Collector(Protocol):
    """A client that keeps what it gets, and why the connection ended."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.ended: defer.Deferred[Any] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        self.ended.callback(reason.value)


async def wait(deferred: Any) -> Any:
    return await deferred.asFuture(asyncio.get_running_loop())


def test_line_receiver_is_reached_by_endpoints(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        listening = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        port = await wait(listening.listen(Factory.forProtocol(Echo)))
        connecting = endpoints.clientFromString(
            reactor, f"tcp:127.0.0.1:{port.getHost().port}"
        )
        collector = Collector()
        await wait(endpoints.connectProtocol(connecting, collector))
        collector.transport.write(b"olleh\r\n")
        collector.transport.loseWriteConnection()
        assert isinstance(await wait(collector.ended), error.ConnectionDone)
        assert collector.data == b"hello\r\n"
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_host_name_endpoint_connects(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        connecting = endpoints.HostnameEndpoint(
            reactor, b"localhost", port.getHost().port
        )
        collector = Collector()
        await wait(endpoints.connectProtocol(connecting, collector))
        collector.transport.loseConnection()
        await wait(collector.ended)
        await wait(port.stopListening())

    run_on_reactor(scenario)


# Twisted's agent warns so over every reactor when a connection is kept alive.
@pytest.mark.filterwarnings("ignore:Using readBody:DeprecationWarning")
def test_twisted_web_serves_its_own_agent(run_on_reactor: Run) -> None:
    class Mirror(resource.Resource):
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:
            return bytes(request.content.read()[::-1])

    async def scenario(reactor: Reactor) -> None:
        site = server.Site(Mirror(), reactor=reactor)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        pool = client.HTTPConnectionPool(reactor, persistent=True)
        agent = client.Agent(reactor, pool=pool)
        url = b"http://127.0.0.1:%d/" % port.getHost().port
        for body in (b"abc", bytes(range(256)) * 4096):
            producer: Any = client.FileBodyProducer(
                io.BytesIO(body), cooperator=cooperator(reactor)
            )
            response = await wait(agent.request(b"POST", url, None, producer))
            assert await wait(client.readBody(response)) == body[::-1]
        await wait(pool.closeCachedConnections())
        await wait(port.stopListening())

    run_on_reactor(scenario)


def cooperator(reactor: Reactor) -> Any:
    return Cooperator(scheduler=lambda step: reactor.callLater(0, step))


def test_udp_and_threads_and_timers_work(run_on_reactor: Run) -> None:
    class Pong(DatagramProtocol):
        transport: Any

        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            self.transport.write(datagram.upper(), addr)

    class Ping(DatagramProtocol):
        transport: Any

        def __init__(self) -> None:
            self.answer: defer.Deferred[bytes] = defer.Deferred()

        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            self.answer.callback(datagram)

    async def scenario(reactor: Reactor) -> None:
        pong = reactor.listenUDP(0, Pong(), interface="127.0.0.1")
        ping = Ping()
        port = reactor.listenUDP(0, ping, interface="127.0.0.1")
        ping.transport.write(b"ping", ("127.0.0.1", pong.getHost().port))
        assert await wait(ping.answer) == b"PING"
        pool = reactor.getThreadPool()
        defer_to_pool: Any = threads.deferToThreadPool
        name = await wait(defer_to_pool(reactor, pool, threading.get_ident))
        assert name != threading.get_ident()
        fired: defer.Deferred[str] = defer.Deferred()
        cancelled = reactor.callLater(0.001, fired.callback, "cancelled")
        cancelled.cancel()
        reactor.callLater(0.002, fired.callback, "fired")
        assert await wait(fired) == "fired"
        await wait(pong.stopListening())
        await wait(port.stopListening())

    run_on_reactor(scenario)


class RecordingFactory(ClientFactory):
    """A client factory that tells how its connection failed or ended."""

    noisy = False

    def __init__(self) -> None:
        self.failed: defer.Deferred[Any] = defer.Deferred()
        self.lost: defer.Deferred[Any] = defer.Deferred()
        self.made: defer.Deferred[Any] = defer.Deferred()

    def buildProtocol(self, addr: Any) -> Any:
        collector = Collector()
        self.made.callback(collector)
        return collector

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.failed.callback(reason.value)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.lost.callback((connector, reason.value))


def test_refused_connection_fails(run_on_reactor: Run, free_port: int) -> None:
    async def scenario(reactor: Reactor) -> None:
        factory = RecordingFactory()
        reactor.connectTCP("127.0.0.1", free_port, factory)
        assert isinstance(await wait(factory.failed), error.ConnectionRefusedError)

    run_on_reactor(scenario)


def test_unknown_host_fails(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        factory = RecordingFactory()
        reactor.connectTCP("name.invalid", 80, factory)
        assert isinstance(await wait(factory.failed), error.DNSLookupError)

    run_on_reactor(scenario)


def test_connection_that_is_given_up_fails(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        factory = RecordingFactory()
        connector = reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        connector.stopConnecting()
        assert isinstance(await wait(factory.failed), error.UserError)
        await settle()
        assert not factory.made.called
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_connection_given_up_in_its_last_step_is_closed(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        accepted = RecordingFactory()
        port = reactor.listenTCP(0, accepted, interface="127.0.0.1")
        factory = RecordingFactory()
        connector = reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        attempt = connector.transport
        hand_over = attempt._connectDone

        def give_up() -> None:
            hand_over()
            connector.stopConnecting()

        attempt._connectDone = give_up
        assert isinstance(await wait(factory.failed), error.UserError)
        collector = await wait(accepted.made)
        assert isinstance(await wait(collector.ended), error.ConnectionDone)
        assert not factory.made.called
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_connector_disconnects_and_connects_again(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        factory = RecordingFactory()
        connector = reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        await wait(factory.made)
        connector.disconnect()
        lost, reason = await wait(factory.lost)
        assert lost is connector
        assert isinstance(reason, error.ConnectionDone)
        factory.made = defer.Deferred()
        factory.lost = defer.Deferred()
        connector.connect()
        await wait(factory.made)
        connector.disconnect()
        await wait(factory.lost)
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_client_binds_where_it_is_told_to(run_on_reactor: Run, free_port: int) -> None:
    async def scenario(reactor: Reactor) -> None:
        accepted = RecordingFactory()
        port = reactor.listenTCP(0, accepted, interface="127.0.0.1")
        factory = RecordingFactory()
        connector = reactor.connectTCP(
            "127.0.0.1",
            port.getHost().port,
            factory,
            bindAddress=("127.0.0.1", free_port),
        )
        collector = await wait(accepted.made)
        await wait(factory.made)
        assert collector.transport.getPeer().port == free_port
        connector.disconnect()
        await wait(collector.ended)
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_unix_port_and_client_work(run_on_reactor: Run, tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenUNIX(str(path), Factory.forProtocol(Echo))
        factory = RecordingFactory()
        connector = reactor.connectUNIX(str(path), factory)
        collector = await wait(factory.made)
        collector.transport.write(b"abc\r\n")
        collector.transport.loseWriteConnection()
        await wait(collector.ended)
        assert collector.data == b"cba\r\n"
        assert connector.getDestination().name == os.fsencode(path)
        await wait(port.stopListening())

    run_on_reactor(scenario)

    assert not path.exists()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_listening_socket_is_adopted(
    run_on_reactor: Run, tmp_path: Path, family: socket.AddressFamily
) -> None:
    async def scenario(reactor: Reactor) -> None:
        with socket.socket(family) as sock:
            name = str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0)
            sock.bind(name)
            sock.listen()
            port = reactor.adoptStreamPort(
                sock.fileno(), family, Factory.forProtocol(Echo)
            )
            bound = sock.getsockname()
        with socket.socket(family) as probe:
            probe.setblocking(False)
            await reactor.loop.sock_connect(probe, bound)
            await reactor.loop.sock_sendall(probe, b"abc\r\n")
            assert await reactor.loop.sock_recv(probe, 10) == b"cba\r\n"
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_unknown_family_is_not_adopted(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        with pytest.raises(error.UnsupportedAddressFamily):
            reactor.adoptStreamPort(0, -1, Factory())

    run_on_reactor(scenario)


def test_port_in_use_cannot_be_listened_on(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        with pytest.raises(error.CannotListenError):
            reactor.listenTCP(port.getHost().port, Factory(), interface="127.0.0.1")
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_port_is_free_once_it_has_stopped(run_on_reactor: Run, free_port: int) -> None:
    async def scenario(reactor: Reactor) -> None:
        first = reactor.listenTCP(free_port, Factory(), interface="127.0.0.1")
        number = first.getHost().port
        verifyObject(interfaces.IListeningPort, first)
        await wait(first.stopListening())
        second = reactor.listenTCP(number, Factory(), interface="127.0.0.1")
        assert second.getHost().port == number
        await wait(second.stopListening())

    run_on_reactor(scenario)


def test_port_that_does_not_read_keeps_clients_waiting(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        port.stopReading()
        reader, writer = await asyncio.open_connection("127.0.0.1", port.getHost().port)
        writer.write(b"abc\r\n")
        answer = asyncio.ensure_future(reader.readline())
        await settle()
        assert not answer.done()
        port.startReading()
        assert await answer == b"cba\r\n"
        writer.close()
        await wait(port.stopListening())

    run_on_reactor(scenario)


def test_stopping_the_reactor_ends_ports_and_connections(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> tuple[int, Collector]:
        accepted = RecordingFactory()
        port = reactor.listenTCP(0, accepted, interface="127.0.0.1")
        number: int = port.getHost().port
        reactor.connectTCP("127.0.0.1", number, RecordingFactory())
        return number, await wait(accepted.made)

    number, collector = run_on_reactor(scenario)

    assert isinstance(collector.ended.result, error.ConnectionLost)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number), 60)


def test_loop_wakes_for_a_call_from_another_thread(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        called: defer.Deferred[int] = defer.Deferred()
        thread = threading.Thread(
            target=reactor.callFromThread, args=(called.callback, 1)
        )
        thread.start()
        assert await wait(called) == 1
        thread.join()

    run_on_reactor(scenario)


def test_interrupt_stops_a_reactor_that_handles_signals() -> None:
    result = run_python("""
import os, signal
reactor = install()
reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGINT)
reactor.callLater(120, os._exit, 1)
reactor.run()
print("stopped")
""")

    assert result.stdout == "stopped\n"


@pytest.mark.parametrize("prefer_uvloop", [True, False])
def test_reactor_may_outlive_the_end_of_a_task(prefer_uvloop: bool) -> None:
    result = run_python(f"""
from djserve.net.main_loop import new_event_loop
reactor = Reactor(new_event_loop(prefer_uvloop={prefer_uvloop}))
loop = reactor.loop
async def end(error):
    raise error
async def work():
    for error in (SystemExit(3), KeyboardInterrupt()):
        try:
            await loop.create_task(end(error))
        except BaseException as caught:
            print(type(caught).__name__)
    reactor.stop()
reactor.callWhenRunning(lambda: tasks.append(loop.create_task(work())))
tasks = []
outlived = []
reactor.run(False, outlives=lambda error: outlived.append(error) or True)
print(len(outlived))
reactor.dispose()
""")

    assert result.stdout == "SystemExit\nKeyboardInterrupt\n2\n", result.stderr


def test_reactor_ends_with_a_task_that_it_does_not_outlive() -> None:
    result = run_python("""
reactor = Reactor()
async def end():
    sys.exit(3)
tasks = []
reactor.callWhenRunning(lambda: tasks.append(reactor.loop.create_task(end())))
reactor.run(False)
""")

    assert result.returncode == 3


# txaio, which Autobahn's handshake uses and djserve does not, on Python 3.14.
@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated")
def test_autobahn_server_and_client_talk(run_on_reactor: Run) -> None:
    from autobahn.twisted.websocket import (
        WebSocketClientFactory,
        WebSocketClientProtocol,
        WebSocketServerFactory,
        WebSocketServerProtocol,
    )

    class EchoServer(WebSocketServerProtocol):
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            self.sendMessage(payload[::-1], isBinary)

    async def scenario(reactor: Reactor) -> None:
        answer: defer.Deferred[bytes] = defer.Deferred()
        closed: defer.Deferred[Any] = defer.Deferred()
        body = os.urandom(300_000)

        class EchoClient(WebSocketClientProtocol):
            def onOpen(self) -> None:
                self.sendMessage(body, isBinary=True)

            def onMessage(self, payload: bytes, isBinary: bool) -> None:
                answer.callback(payload)
                self.sendClose(1000)

            def onClose(self, clean: bool, code: int, reason: str) -> None:
                closed.callback((clean, code))

        serving = WebSocketServerFactory(reactor=reactor)
        serving.protocol = EchoServer
        port = reactor.listenTCP(0, serving, interface="127.0.0.1")
        number = port.getHost().port
        connecting = WebSocketClientFactory(f"ws://127.0.0.1:{number}", reactor=reactor)
        connecting.protocol = EchoClient
        reactor.connectTCP("127.0.0.1", number, connecting)
        assert await wait(answer) == body[::-1]
        assert await wait(closed) == (True, 1000)
        await wait(port.stopListening())

    run_on_reactor(scenario)


# In a process of its own: Twisted's log can be begun once.
LOG_SOMETHING = """
import logging
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
import pytest

from djserve.net.main_loop import redirect_twisted_log
redirect_twisted_log()
redirect_twisted_log()
from twisted.logger import Logger
Logger().warn("watch {what}", what="out")
"""


def test_messages_of_twisted_go_to_their_logger_once() -> None:
    command = [sys.executable, "-c", LOG_SOMETHING]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.stderr == "djserve.twisted WARNING watch out\n"
