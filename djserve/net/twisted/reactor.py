"""The Twisted reactor: installed by a call, never by an import.

Its loop is uvloop's if there is one. TCP and unix streams are the loop's own
transports behind Twisted's interfaces; Twisted binds, resolves and connects, and the
rest of the reactor is Twisted's, too.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from djserve.errors import ConfigError
from djserve.net.acceptor import accept_connections
from djserve.net.main_loop import is_running_here, new_event_loop, run_on
from djserve.net.sockets import UNIX, stop_listening
from djserve.packages import require
from djserve.postponed import postponed, postponed_call

# Before all else that imports Twisted: TLS of the event loop needs none of these.
with postponed(
    "http.cookiejar",
    "twisted.internet.ssl",
    "twisted.protocols.tls:TLSMemoryBIOFactory",
):
    from twisted.internet import asyncioreactor, error, tcp

from djserve.net.twisted.transport import StreamTransport

process: Any
unix: Any
try:
    from twisted.internet import process, unix
except ImportError:
    # Twisted's own parts for Windows have neither.
    process = unix = None

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from djserve.net.acceptor import Accepting, Opening
    from djserve.net.main_loop import Outlives

require(
    "twisted",
    asyncioreactor.AsyncioSelectorReactor,
    "_registerAsIOThread",
    "_supportedAddressFamilies",
    "_uninstallHandler",
)
require("twisted", tcp.Port, "_fromListeningDescriptor", "_type", "startReading")
require("twisted", tcp.Port, "_shouldShutdown")
require("twisted", tcp.Client, "_collectSocketDetails", "_connectDone")
require("twisted", tcp.Connector, "_makeTransport")
if unix is not None:
    require("twisted", unix.Port, "_fromListeningDescriptor")
    require("twisted", unix.Client, "_collectSocketDetails", "_connectDone")
    require("twisted", unix.Connector, "_makeTransport")

_tls_factory = postponed_call("twisted.protocols.tls", "TLSMemoryBIOFactory")


def install(loop: AbstractEventLoop | None = None) -> Reactor:
    """Install a new reactor as Twisted's global one and return it.

    If djserve's reactor is installed already, that one is returned. Raises
    ConfigError if another reactor is.
    """
    installed = _installed_reactor()
    if isinstance(installed, Reactor) and loop in (None, installed.loop):
        return installed
    if installed is not None:
        raise ConfigError([_already_installed(installed)])
    from twisted.internet.main import installReactor

    reactor = Reactor(loop)
    installReactor(reactor)
    return reactor


def _installed_reactor() -> object:
    return sys.modules.get("twisted.internet.reactor")


def _already_installed(reactor: object) -> str:
    kind = type(reactor)
    return (
        f"Another Twisted reactor is installed, {kind.__module__}.{kind.__qualname__}; "
        "install djserve's before anything imports twisted.internet.reactor"
    )


class Reactor(asyncioreactor.AsyncioSelectorReactor):
    """A Twisted reactor whose streams are the event loop's own.

    Without ``install`` it can run in any thread (``run(installSignalHandlers=False)``)
    and be thrown away with ``dispose``.
    """

    def __init__(self, loop: AbstractEventLoop | None = None) -> None:
        self.loop = new_event_loop() if loop is None else loop
        self.ports: set[_NativePort] = set()
        self.streams: set[StreamTransport] = set()
        super().__init__(self.loop)

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        # Twisted keeps one thread as the process's I/O thread: the installed reactor's.
        self._registerAsIOThread = _installed_reactor() is self
        super().startRunning(installSignalHandlers)
        if installSignalHandlers and process is not None:
            # Twisted waits for the wake-up descriptor of signals, which the loop has
            # for itself while it runs.
            signal.signal(signal.SIGCHLD, self._child_ended)

    def run(
        self, installSignalHandlers: bool = True, outlives: Outlives | None = None
    ) -> None:
        """Run until ``stop``.

        asyncio lets SystemExit and KeyboardInterrupt out of any task or callback end
        the loop. ``outlives`` returns whether it runs on after such a one.
        """
        try:
            super().run(installSignalHandlers)
        except (SystemExit, KeyboardInterrupt) as error:
            run_on(self.loop, error, outlives)
        finally:
            self.end_run()

    def end_run(self) -> None:
        """Undo what the start did to the process, after the loop has stopped."""
        self._justStopped = False
        self._uninstallHandler()

    # main_loop.Runner

    def call_when_running(self, function: Callable[[], object]) -> None:
        self.callWhenRunning(function)

    def run_loop(self, outlives: Outlives | None = None) -> None:
        self.run(installSignalHandlers=False, outlives=outlives)

    def as_reactor(self) -> Reactor:
        return self

    def installWaker(self) -> None:
        # A thread may have imported Twisted while the loop runs in another.
        if self.loop.is_running() and not is_running_here(self.loop):
            self.loop.call_soon_threadsafe(super().installWaker)
        else:
            super().installWaker()

    def _child_ended(self, signum: int, frame: object) -> None:
        self.loop.call_soon_threadsafe(process.reapAllProcesses)

    def dispose(self) -> None:
        """Close the loop and the reactor's descriptors, after ``run`` has returned."""
        self.disconnectAll()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        # Transports close their sockets in the turns after they were told to.
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self._close_waker()
        self.loop.close()

    def detach(self) -> None:
        """Close the reactor's descriptors; the loop is another's and goes on."""
        self.disconnectAll()
        self._close_waker()

    def _close_waker(self) -> None:
        if self.waker is not None:
            self.removeReader(self.waker)
            self.waker.connectionLost(None)
            self.waker = None

    def removeAll(self) -> list[Any]:
        """Stop all input and output; returns what Twisted will tell that it is lost."""
        ports = list(self.ports)
        for port in ports:
            port.stopReading()
        return [*super().removeAll(), *ports, *self.streams]

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *self.ports, *self.streams]

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        listening = _TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> Any:
        listening = _UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        # The clock is passed since TLS would take it from the global reactor.
        tls_factory = _tls_factory(contextFactory, False, factory, self)
        listening = self.listenTCP(port, tls_factory, backlog, interface)
        listening._type = "TLS"
        return listening

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> Any:
        if addressFamily not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(addressFamily)
        if addressFamily == UNIX:
            port: Any = _UNIXPort._fromListeningDescriptor(
                self, fileDescriptor, factory
            )
        else:
            port = _TCPPort._fromListeningDescriptor(
                self, fileDescriptor, addressFamily, factory
            )
        port.startListening()
        return port

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> Any:
        connector = _TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: Any,
        contextFactory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> Any:
        tls_factory = _tls_factory(contextFactory, True, factory, self)
        return self.connectTCP(host, port, tls_factory, timeout, bindAddress)

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30.0, checkPID: int = 0
    ) -> Any:
        connector = _UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector


class _NativePort:
    """Twisted's port, bound and closed by Twisted, accepting by the loop."""

    reactor: Any
    factory: Any
    socket: Any
    backlog: int
    _shouldShutdown: bool
    _accepting: Accepting | None = None
    _opening: Opening

    def startReading(self) -> None:
        if self._accepting is None:
            self._opening = WeakSet()
            # A duplicate: the port can stop to accept, and start again, still bound.
            self._accepting = accept_connections(
                self.reactor.loop,
                self.socket.dup(),
                self._build_transport,
                backlog=self._most_waiting,
                opening=self._opening,
            )
            self.reactor.ports.add(self)

    def stopReading(self) -> None:
        self.reactor.ports.discard(self)
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.close()

    def take_waiting(self) -> Iterable[Any]:
        """Accept the last of what the kernel holds, before the port stops for good.

        Returns what stands for connections until they are open.
        """
        if self._accepting is None:
            return ()
        # The kernel holds one more than it is told to.
        self._accepting.take_waiting(self._most_waiting + 1)
        if self._shouldShutdown:
            # Twisted closes its socket a turn of the loop later.
            stop_listening(self.socket)
        return self._opening

    @property
    def _most_waiting(self) -> int:
        return self.backlog or socket.SOMAXCONN

    def _build_transport(self) -> Any:
        return StreamTransport(self.reactor, self.factory.buildProtocol)


class _TCPPort(_NativePort, tcp.Port):
    pass


class _UNIXPort(_NativePort, unix.Port if unix else object):  # type: ignore[misc]
    pass


class _NativeClient:
    """Twisted's client up to the connected socket, which the loop then serves."""

    reactor: Any
    socket: Any
    connector: Any

    def _connectDone(self) -> None:
        """Hand the socket over; Twisted calls this when it would begin to read."""
        sock = self.socket
        self._collectSocketDetails()  # type: ignore[attr-defined]
        connection = self.reactor.loop.create_connection(
            self._build_transport, sock=sock
        )
        self._opening = self.reactor.loop.create_task(connection)

    def _build_transport(self) -> Any:
        self._stream = StreamTransport(
            self.reactor, self._build_protocol, is_client=True, on_lost=self._tell_lost
        )
        return self._stream

    def _build_protocol(self, address: IAddress) -> Any:
        if not hasattr(self, "connector"):
            # The attempt was given up after the socket was connected.
            return None
        self.connected = 1
        self.connector.transport = self._stream
        return self.connector.buildProtocol(address)

    def _tell_lost(self, reason: Failure) -> None:
        if hasattr(self, "connector"):
            self.connector.connectionLost(reason)


class _TCPClient(_NativeClient, tcp.Client):
    pass


class _UNIXClient(_NativeClient, unix.Client if unix else object):  # type: ignore[misc]
    pass


class _TCPConnector(tcp.Connector):
    def _makeTransport(self) -> Any:
        return _TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class _UNIXConnector(unix.Connector if unix else object):  # type: ignore[misc]
    def _makeTransport(self) -> Any:
        return _UNIXClient(self.address, self, self.reactor, self.checkPID)
