"""A request head and its connection to an ASGI scope (HTTP and WebSocket 2.5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from djserve.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.asgi.forwarded import Forwarded
    from djserve.asgi.types import Scope
    from djserve.interfaces import ConnectionInfo, RequestHead, Stream

ASGI_VERSION = {"version": "3.0", "spec_version": "2.5"}

logger = logging.getLogger("djserve")

# A number, since Python takes what it looks for in bytes for one first, and what is
# none costs it an exception (benchmark: hello_heads).
_PERCENT = ord("%")


class ScopeBuilder:
    """Build scopes for one application: its mount point and its lifespan state.

    ``root_path_mode`` is the setting of that name. ``state`` may be replaced once, when
    the application's start-up is complete.

    Only the operator knows what the proxy does with the prefix, and a guess from the
    path can be turned against the site: behind a proxy that takes "/app" off and
    forbids "/app/admin/", a request for "/app/app/admin/" arrives as "/app/admin/". So
    "auto" never takes a prefix for the mount point's own.
    """

    __slots__ = ("_has_warned", "_root_path", "_root_path_mode", "state")

    def __init__(
        self,
        root_path: str = "",
        state: dict[str, Any] | None = None,
        *,
        root_path_mode: str = "auto",
    ) -> None:
        # Decoded, as the path is that it is compared with and put in front of.
        self._root_path = unquote(root_path.rstrip("/"))
        self._root_path_mode = root_path_mode
        self._has_warned = False
        self.state = state

    def build_http(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
        forwarded: Forwarded | None = None,
    ) -> Scope:
        """Return the scope of an HTTP request.

        Raises ProtocolError (404) for a path outside of the mount point.
        """
        repetition = head.repetition
        if repetition is None or forwarded is not None:
            return self._build_http(head, info, stream, forwarded)
        # A client that asks for the same again and again (benchmark: http1_hello).
        if repetition.scope is None:
            repetition.scope = self._build_http(head, info, stream, None)
        return self._copy(repetition.scope, head, info, stream)

    def _build_http(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
        forwarded: Forwarded | None,
    ) -> dict[str, Any]:
        extensions = {**stream.extensions}
        scope = self._build("http", head, info, extensions, forwarded)
        scope["method"] = head.method
        return scope

    def _copy(
        self,
        model: dict[str, Any],
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
    ) -> dict[str, Any]:
        """Return a scope like ``model``; all that can be changed in it is its own.

        What works on the stream may be another from one request to the next.
        """
        scope = model.copy()
        scope["asgi"] = ASGI_VERSION.copy()
        scope["headers"] = head.headers.copy()
        extensions = scope["extensions"] = {**stream.extensions}
        if info.tls is not None:
            extensions["tls"] = _copy_tls(info.tls)
        if self.state is not None:
            scope["state"] = self.state.copy()
        return scope

    def build_websocket(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        subprotocols: Sequence[str],
        forwarded: Forwarded | None = None,
    ) -> Scope:
        """Return the scope of a WebSocket connection; raises as ``build_http``."""
        extensions: dict[str, dict[str, Any]] = {"websocket.http.response": {}}
        scope = self._build("websocket", head, info, extensions, forwarded)
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = list(subprotocols)
        return scope

    def build_webtransport(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        forwarded: Forwarded | None = None,
    ) -> Scope:
        """Return the scope of a WebTransport session; raises as ``build_http``."""
        return self._build("webtransport", head, info, {}, forwarded)

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
        if _PERCENT in raw_path:
            path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        else:
            # The grammar takes UTF-8 only.
            path = raw_path.decode("utf-8")
        if root_path and path != "*":
            path = self._mount(path)
        headers = head.headers if head.repetition is None else head.headers.copy()
        scope: dict[str, Any] = {
            "type": kind,
            "asgi": ASGI_VERSION.copy(),
            "http_version": head.http_version,
            "scheme": "https" if info.tls is not None else "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": head.query,
            "root_path": root_path,
            "headers": headers,
            "client": info.client,
            "server": info.server,
            "extensions": extensions,
        }
        if info.tls is not None:
            extensions["tls"] = _copy_tls(info.tls)
        if self.state is not None:
            scope["state"] = self.state.copy()
        if forwarded is not None:
            _apply_forwarded(scope, info, forwarded)
        return scope

    def _mount(self, path: str) -> str:
        """Return the path with the mount point in front (ASGI: path includes it)."""
        root_path = self._root_path
        is_inside = path == root_path or path.startswith(root_path + "/")
        if self._root_path_mode == "keep":
            if not is_inside:
                raise ProtocolError("Not Found", 404, setting="ROOT_PATH_MODE")
            return path
        if is_inside and self._root_path_mode == "auto" and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "A request's path, %.100r, begins with ROOT_PATH already and is taken "
                "for a path below it. If the proxy leaves the prefix on, set "
                "ROOT_PATH_MODE to 'keep'; if it takes it off, to 'strip'.",
                path,
            )
        return root_path + path


def _copy_tls(tls: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a connection's TLS extension, the client's chain included."""
    own = tls.copy()
    chain = tls.get("client_cert_chain")
    if chain is not None:
        own["client_cert_chain"] = chain.copy()
    return own


def _apply_forwarded(
    scope: dict[str, Any], info: ConnectionInfo, forwarded: Forwarded
) -> None:
    """Replace what the connection shows by what a trusted proxy says."""
    if forwarded.client is not None:
        scope["client"] = tuple(forwarded.client)
    if forwarded.scheme is not None:
        scope["scheme"] = forwarded.scheme
    scope["server"] = forwarded.server(info)
    scope["headers"] = forwarded.replace_host(scope["headers"])
