"""Static files during development: Django's handler for them, on djserve's lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin

from djserve.asgi.application import takes_websockets
from djserve.handlers.handler import ASGIHandler

if TYPE_CHECKING:
    from djserve.asgi.types import Application


class StaticFilesHandler(StaticFilesHandlerMixin, ASGIHandler):  # type: ignore[misc]
    """Answer for static files; hand everything else to the application.

    Takes the place of ``ASGIStaticFilesHandler``, which reads a whole file into memory
    before it sends any of it and ignores ranges: Safari plays no video from it.
    """

    application: Any

    def __init__(self, application: Application) -> None:
        # Like Django's: without the initialiser of handlers, which builds middleware.
        self.application = application
        self.base_url = urlparse(self.get_base_url())

    def takes_websockets(self) -> bool:
        """Return whether the application may."""
        return takes_websockets(self.application)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or leave the scope to the application."""
        if scope["type"] == "http" and self._should_handle(scope["path"]):
            await super().__call__(scope, receive, send)
        else:
            await self.application(scope, receive, send)
