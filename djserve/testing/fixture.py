"""A project's server outside a test case class."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from django.test.utils import modify_settings

from djserve.handlers.static import StaticFilesHandler
from djserve.testing.databases import find_memory_connections
from djserve.testing.testcases import ServerThread

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "localhost"


class ProjectServer(NamedTuple):
    """Where a project is served."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The server's address for HTTP, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The server's address for WebSocket, without a slash at its end."""
        return f"ws://{self.host}:{self.port}"


@contextmanager
def serve_project() -> Iterator[ProjectServer]:
    """Serve the project's application, on the databases of the running test."""
    with modify_settings(ALLOWED_HOSTS={"append": HOST}):
        thread = ServerThread(HOST, StaticFilesHandler, find_memory_connections())
        thread.start()
        try:
            if thread.error is not None:
                raise thread.error
            yield ProjectServer(HOST, thread.port)
        finally:
            thread.terminate()
