"""A request head and its connection to an ASGI scope (HTTP and WebSocket 2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.asgi.forwarded import Forwarded
    from djserve.asgi.types import Scope
    from djserve.interfaces import ConnectionInfo, RequestHead, Stream

ASGI_VERSION = {"version": "3.0", "spec_version": "2.5"}


class ScopeBuilder:
    """Build scopes for one application: its mount point and its lifespan state.

    ``state`` may be replaced once, when the application's start-up is complete.
    """

    __slots__ = ("_root_path", "state")

    def __init__(
        self, root_path: str = "", state: dict[str, Any] | None = None
    ) -> None:
        self._root_path = root_path.rstrip("/")
        self.state = state

    def build_http(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
        forwarded: Forwarded | None = None,
    ) -> Scope:
        """Return the scope of an HTTP request."""
        extensions = dict(stream.extensions)
        scope = self._build("http", head, info, extensions, forwarded)
        scope["method"] = head.method
        return scope

    def build_websocket(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        subprotocols: Sequence[str],
        forwarded: Forwarded | None = None,
    ) -> Scope:
        """Return the scope of a WebSocket connection."""
        extensions: dict[str, dict[str, Any]] = {"websocket.http.response": {}}
        scope = self._build("websocket", head, info, extensions, forwarded)
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = list(subprotocols)
        return scope

    def _build(
        self,
        kind: str,
        head: RequestHead,
        info: ConnectionInfo,
        extensions: dict[str, dict[str, Any]],
        forwarded: Forwarded | None,
    ) -> dict[str, Any]:
        raw_path = head.raw_path
        root_path = self._root_path
        if b"%" in raw_path:
            path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        else:
            path = raw_path.decode("ascii")
        if (
            root_path
            and path != root_path
            and path != "*"
            and not path.startswith(root_path + "/")
        ):
            # ASGI: path includes root_path. Some proxies take the prefix off, some
            # leave it on; either way the application sees it once.
            path = root_path + path
        scope: dict[str, Any] = {
            "type": kind,
            "asgi": ASGI_VERSION.copy(),
            "http_version": head.http_version,
            "scheme": "https" if info.tls is not None else "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": head.query,
            "root_path": root_path,
            "headers": head.headers,
            "client": info.client,
            "server": info.server,
            "extensions": extensions,
        }
        if info.tls is not None:
            extensions["tls"] = info.tls.copy()
        if self.state is not None:
            scope["state"] = self.state.copy()
        if forwarded is not None:
            _apply_forwarded(scope, info, forwarded)
        return scope


def _apply_forwarded(
    scope: dict[str, Any], info: ConnectionInfo, forwarded: Forwarded
) -> None:
    """Put what a trusted proxy says in the place of what the connection shows."""
    if forwarded.client is not None:
        scope["client"] = tuple(forwarded.client)
    if forwarded.scheme is not None:
        scope["scheme"] = forwarded.scheme
    scope["server"] = forwarded.server(info)
    scope["headers"] = forwarded.replace_host(scope["headers"])
