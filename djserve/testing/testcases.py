"""Live-server test cases for Django projects: HTTP, WebSocket and static files.

The server runs in threads of the test's process, so that a database in memory works,
settings overridden by a test are those of the server, and so are mocks.
"""

from __future__ import annotations

import threading
from concurrent.futures import wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections
from django.test import LiveServerTestCase
from django.utils.functional import classproperty

from djserve.conf.loader import load
from djserve.handlers.project import load_project
from djserve.handlers.runtime import close_shared_pool
from djserve.handlers.static import StaticFilesHandler
from djserve.server.launch import choose_origin_policy
from djserve.testing.databases import shared_connections
from djserve.testing.live import LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

    from djserve.asgi.types import Application

    StaticHandler = Callable[[Any], Any]

# Seconds for threads of the application to end when the server has stopped.
THREADS_TIMEOUT = 5.0


class ServerThread:
    """What Django's live-server test case expects of its thread, over a LiveServer.

    ``start`` returns when the server is ready; then ``port`` is known, or ``error`` is
    set. ``static_handler`` is put in front of the project's application, if given.
    """

    application: Application | None = None
    """Served instead of the project's, if set."""

    def __init__(
        self,
        host: str,
        static_handler: StaticHandler | None,
        connections_override: Mapping[str, BaseDatabaseWrapper] | None = None,
        port: int = 0,
    ) -> None:
        self.host = host
        self.port = port
        self.static_handler = static_handler
        self.connections_override = connections_override or {}
        self.daemon = True
        self.error: BaseException | None = None
        self.is_ready = threading.Event()
        self._cleanup = ExitStack()

    def start(self) -> None:
        """Serve until ``terminate``; what goes wrong is left in ``error``."""
        try:
            self._start()
        except Exception as error:
            self._cleanup.close()
            self.error = error
        self.is_ready.set()

    def terminate(self) -> None:
        """Stop the server and end the threads of its application."""
        self._cleanup.close()

    def _start(self) -> None:
        config = load()
        application = self.application or load_project(config.django).application
        # A static URL on another host is not served from here.
        if self.static_handler is not None and settings.STATIC_URL:
            application = self.static_handler(application)
        self._cleanup.enter_context(shared_connections(self.connections_override))
        self._cleanup.callback(_end_threads)
        server = LiveServer(
            application,
            host=self.host,
            port=self.port,
            settings=_server_settings(),
            origin_policy=choose_origin_policy(config.websocket.websocket_origins),
        )
        self._cleanup.enter_context(server)
        self.port = server.port


class DjserveLiveServerTestCase(LiveServerTestCase):
    """Django's LiveServerTestCase, with the project's ASGI application.

    ``application`` is served instead of the project's, if set. Without
    ``serve_static`` nothing is put in front of it.
    """

    application: ClassVar[Any] = None
    serve_static: ClassVar[bool] = True
    static_handler: Any = StaticFilesHandler
    server_thread_class: Any = ServerThread

    @classproperty
    def live_server_ws_url(cls) -> str:
        """The server's address for WebSocket, without a slash at its end."""
        return f"ws://{cls.host}:{cls.server_thread.port}"

    @classmethod
    def _create_server_thread(
        cls, connections_override: Mapping[str, BaseDatabaseWrapper]
    ) -> Any:
        thread = cls.server_thread_class(
            cls.host,
            cls.static_handler if cls.serve_static else None,
            connections_override=connections_override,
            port=cls.port,
        )
        thread.application = cls.application
        return thread


class ChannelsLiveServerTestCase(DjserveLiveServerTestCase):
    """Takes the place of ``channels.testing.ChannelsLiveServerTestCase``.

    It has the same attributes and needs no Daphne. The server is in the test's own
    process, so ``ProtocolServerProcess`` has no meaning here.
    """

    static_wrapper: ClassVar[Any] = StaticFilesHandler

    @classmethod
    def _create_server_thread(
        cls, connections_override: Mapping[str, BaseDatabaseWrapper]
    ) -> Any:
        cls.static_handler = cls.static_wrapper
        return super()._create_server_thread(connections_override)


def _server_settings() -> dict[str, Any]:
    """Return the project's settings, less what belongs to its production server."""
    given = dict(getattr(settings, "DJSERVE", {}))
    for key in ("ACCESS_LOG", "BIND", "CERTFILE", "KEYFILE", "PID_FILE"):
        given.pop(key, None)
    return given


def _end_threads() -> None:
    """Close the database connections of the threads that ran synchronous code.

    A test database cannot be dropped while one is open.
    """
    close_shared_pool(THREADS_TIMEOUT)
    closing = SyncToAsync.single_thread_executor.submit(connections.close_all)
    wait([closing], THREADS_TIMEOUT)
