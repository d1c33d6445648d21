"""A server in a thread of the test's process: real sockets, no second process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from djserve.conf.parser import parse
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from djserve.asgi.origin import OriginPolicy
    from djserve.asgi.types import Application

# A test does not wait long for requests that it has forgotten.
DEFAULTS = {"SHUTDOWN_TIMEOUT": 1.0, "LIFESPAN_TIMEOUT": 10.0}

# Seconds for the thread to end: more than a server ever takes by itself.
STOP_TIMEOUT = 30.0


class LiveServer:
    """Serve an application from a thread, on its own event loop and reactor.

    ``settings`` are keys of ``settings.DJSERVE``. Port 0 lets the system choose. Use it
    as a context manager, or call ``start`` and ``stop``, once.
    """

    def __init__(
        self,
        application: Application,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, Any] | None = None,
        origin_policy: OriginPolicy | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._application = application
        self._origin_policy = origin_policy
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._config = parse({**DEFAULTS, **(settings or {}), "BIND": [bind]})
        self._server: Server | None = None
        self._reactor: Reactor | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="djserve-live-server", daemon=True
        )

    @property
    def url(self) -> str:
        """The server's address for HTTP, without a slash at its end."""
        return f"{self._scheme('http')}://{self._authority}"

    @property
    def ws_url(self) -> str:
        """The server's address for WebSocket, without a slash at its end."""
        return f"{self._scheme('ws')}://{self._authority}"

    def start(self) -> Self:
        """Return once the server accepts connections; raise why it does not."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join(STOP_TIMEOUT)
            raise self._error
        return self

    def stop(self) -> None:
        """Close all connections and end the thread; may be called again."""
        if self._server is None or self._reactor is None:
            return
        try:
            self._reactor.loop.call_soon_threadsafe(self._server.stop)
        except RuntimeError:
            # The loop is closed: the server has ended.
            pass
        self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            raise RuntimeError(f"The server did not stop in {STOP_TIMEOUT:g} seconds")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def _scheme(self, name: str) -> str:
        return name if self._config.tls.certfile is None else f"{name}s"

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    def _serve(self) -> None:
        self._reactor = Reactor()
        asyncio.set_event_loop(self._reactor.loop)
        try:
            self._server = Server(
                self._application,
                self._config,
                self._reactor,
                origin_policy=self._origin_policy,
                on_ready=self._note_ready,
            )
            code = run_until_stopped(self._server, self._reactor)
        finally:
            asyncio.set_event_loop(None)
            self._reactor.dispose()
        if code is not ExitCode.OK:
            reason = code.name.replace("_", " ").lower()
            raise RuntimeError(f"The server did not start: {reason} (see its log)")

    def _note_ready(self, server: Server) -> None:
        self.port = int(server.listeners[0].address.rpartition(":")[2])
        self._ready.set()
