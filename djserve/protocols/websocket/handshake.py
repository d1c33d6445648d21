"""The opening handshake on the server's side (RFC 6455 section 4.2, RFC 8441).

A request head that is parsed already goes in; what the client asks for comes out, or a
ProtocolError with the response that refuses it. Accepting makes the fields of the
response and the connection that takes the stream's bytes from then on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djserve.errors import ApplicationError, ProtocolError
from djserve.protocols.headers import check_value, is_token, lookup_name, split_list
from djserve.protocols.websocket.connection import WebSocketConnection
from djserve.protocols.websocket.deflate import ExtensionOffer, negotiate_deflate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djserve.conf.schema import WebSocketConfig
    from djserve.interfaces import (
        Headers,
        RequestHead,
        Transport,
        WebSocketObserver,
    )
    from djserve.protocols.websocket.deflate import DeflateAgreement
    from djserve.protocols.websocket.masking import SharedBuffer
    from djserve.protocols.websocket.turns import Turns

# RFC 6455 section 1.3.
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# RFC 6455 section 4.4: the refusal of a version names those that would do.
_VERSION_FIELD = (b"sec-websocket-version", b"13")

# More offers than any client makes are not looked at: each costs a negotiation.
_OFFERS_LIMIT = 16

# RFC 6455 section 9.1: token *( ";" token [ "=" ( token / quoted token ) ] )
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_parameter = re.compile(
    rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|"{_TOKEN}"))?'
)
_extension = re.compile(rf"[ \t,]*({_TOKEN})")
_extension_end = re.compile(r"[ \t]*(?:,|$)")

# Set by the handshake itself, or without a meaning in a 101 (RFC 9110 section 15.2.2).
_RESERVED_FIELDS = frozenset(
    {b"connection", b"upgrade", b"content-length", b"transfer-encoding"}
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client asks for; ``key`` is None if it comes over HTTP/2.

    ``read_buffer``, ``turns`` and ``reset`` are the server's: what the connection reads
    into, how much in a turn, and how it aborts a transport.
    """

    key: bytes | None
    subprotocols: list[str] = field(default_factory=list)
    extensions: list[ExtensionOffer] = field(default_factory=list)
    origin: str | None = None
    read_buffer: SharedBuffer | None = None
    turns: Turns | None = None
    reset: Callable[[Transport], None] | None = None

    def accept(
        self,
        observer: WebSocketObserver,
        config: WebSocketConfig,
        *,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
        write_timeout: float,
    ) -> tuple[Headers, WebSocketConnection]:
        """Return the fields of the response and the connection to upgrade to.

        The caller hands both to ``Stream.upgrade`` and the transport that it returns to
        the connection's ``attach``. Raises ApplicationError for a subprotocol that was
        not offered and for fields that cannot be sent.
        """
        agreement = None
        if config.websocket_compression:
            agreement = negotiate_deflate(self.extensions)
        fields = build_accept_headers(self, subprotocol, agreement, headers)
        connection = WebSocketConnection(
            config,
            observer,
            write_timeout=write_timeout,
            deflate=agreement,
            read_buffer=self.read_buffer,
            turns=self.turns,
            reset=self.reset,
        )
        return fields, connection


def check_handshake(
    head: RequestHead,
    read_buffer: SharedBuffer | None = None,
    turns: Turns | None = None,
    reset: Callable[[Transport], None] | None = None,
) -> Handshake:
    """Read the opening handshake from a request's head.

    Raises ProtocolError: 405 for a method other than GET, 426 for a version other than
    13, else 400. Offers of extensions that make no sense are passed over, since a
    server may decline any of them.
    """
    is_extended_connect = head.http_version in ("2", "3")
    _check_method(head, "CONNECT" if is_extended_connect else "GET")
    if head.http_version == "1.0":
        # RFC 9110 section 7.8: Upgrade does not exist in HTTP/1.0.
        raise ProtocolError("WebSocket needs HTTP/1.1")
    if head.has_body and not is_extended_connect:
        # A proxy may take for content what we take for frames.
        raise ProtocolError("A WebSocket handshake has no content")
    if not is_extended_connect:
        _check_upgrade(head)
    _check_version(head, is_extended_connect)
    return Handshake(
        # RFC 8441 section 5: no key is sent, and none is answered.
        key=None if is_extended_connect else _read_key(head),
        subprotocols=_read_subprotocols(head),
        extensions=_read_extensions(head),
        origin=_read_origin(head),
        read_buffer=read_buffer,
        turns=turns,
        reset=reset,
    )


def build_accept_headers(
    handshake: Handshake,
    subprotocol: str | None,
    agreement: DeflateAgreement | None,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> Headers:
    """Return the fields of the response that accepts; the stream adds Upgrade itself.

    Raises ApplicationError for a subprotocol that the client did not offer, and for
    fields of the application's that are malformed or the handshake's own.
    """
    fields: Headers = []
    if handshake.key is not None:
        fields.append((b"sec-websocket-accept", _accept_key(handshake.key)))
    if subprotocol is not None:
        if subprotocol not in handshake.subprotocols:
            # RFC 6455 section 4.1: the client fails the connection in this case.
            raise ApplicationError(
                f"subprotocol must be one of those offered, "
                f"{handshake.subprotocols!r:.200}, got {subprotocol!r:.100}"
            )
        fields.append((b"sec-websocket-protocol", subprotocol.encode()))
    if agreement is not None:
        fields.append((b"sec-websocket-extensions", agreement.header))
    for name, value in headers:
        fields.append(_check_field(name, value))
    return fields


def _check_method(head: RequestHead, method: str) -> None:
    if head.method != method:
        raise ProtocolError(
            f"A WebSocket handshake is a {method} request, got {head.method!r:.50}",
            status=405,
            headers=[(b"allow", method.encode())],
        )


def _check_upgrade(head: RequestHead) -> None:
    if b"upgrade" not in split_list(b",".join(_values(head, b"connection"))):
        raise ProtocolError("A WebSocket handshake has Connection: Upgrade")
    if b"websocket" not in split_list(b",".join(_values(head, b"upgrade"))):
        raise ProtocolError("A WebSocket handshake has Upgrade: websocket")


def _check_version(head: RequestHead, is_extended_connect: bool) -> None:
    versions = _values(head, b"sec-websocket-version")
    if versions == [b"13"]:
        return
    reason = f"Sec-WebSocket-Version must be 13, got {b', '.join(versions)!r:.50}"
    if len(versions) > 1:
        raise ProtocolError(reason, headers=[_VERSION_FIELD])
    if is_extended_connect:
        # RFC 9113 section 8.6: HTTP/2 has no Upgrade, so 426 would make no sense.
        raise ProtocolError(reason, headers=[_VERSION_FIELD])
    # RFC 9110 section 15.5.22: the response to ask for an upgrade says which.
    upgrade = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    raise ProtocolError(reason, status=426, headers=[_VERSION_FIELD, *upgrade])


def _read_key(head: RequestHead) -> bytes:
    keys = _values(head, b"sec-websocket-key")
    if len(keys) != 1:
        raise ProtocolError(f"Expected one Sec-WebSocket-Key, got {len(keys)}")
    # RFC 6455 section 4.2.1: base64 of 16 bytes.
    try:
        decoded = binascii.a2b_base64(keys[0], strict_mode=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != 16:
        raise ProtocolError(
            f"Sec-WebSocket-Key must be 16 bytes in base64, got {keys[0]!r:.50}"
        )
    return keys[0]


def _accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID).digest())


def _read_subprotocols(head: RequestHead) -> list[str]:
    names: dict[str, None] = {}
    for value in _values(head, b"sec-websocket-protocol"):
        for element in value.split(b","):
            name = element.strip(b" \t")
            if name and not is_token(name):
                raise ProtocolError(
                    f"Sec-WebSocket-Protocol must be tokens, got {name!r:.50}"
                )
            if name:
                names[name.decode("ascii")] = None
    return list(names)


def _read_extensions(head: RequestHead) -> list[ExtensionOffer]:
    offers: list[ExtensionOffer] = []
    for value in _values(head, b"sec-websocket-extensions"):
        offers += _parse_extensions(value.decode("latin-1"))
    return offers[:_OFFERS_LIMIT]


def _parse_extensions(value: str) -> list[ExtensionOffer]:
    """Return the offers up to the first place where the value is malformed."""
    offers: list[ExtensionOffer] = []
    position = 0
    while len(offers) < _OFFERS_LIMIT and (match := _extension.match(value, position)):
        name, position = match[1], match.end()
        parameters: list[tuple[str, str | None]] = []
        while match := _parameter.match(value, position):
            parameters.append((match[1].lower(), match[2] and match[2].strip('"')))
            position = match.end()
        match = _extension_end.match(value, position)
        if match is None:
            break
        position = match.end()
        offers.append(ExtensionOffer(name.lower(), tuple(parameters)))
    return offers


def _read_origin(head: RequestHead) -> str | None:
    origins = _values(head, b"origin")
    if len(origins) > 1:
        raise ProtocolError(f"Expected one Origin, got {len(origins)}")
    return origins[0].decode("latin-1") if origins else None


def _check_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    lookup_name(name)
    check_value(name, value)
    lowered = name.lower()
    if lowered in _RESERVED_FIELDS or lowered.startswith(b"sec-websocket-"):
        raise ApplicationError(
            f"websocket.accept: header {name!r:.100} is set by the server "
            f"(a subprotocol by the message's own key)"
        )
    return lowered, bytes(value)


def _values(head: RequestHead, name: bytes) -> list[bytes]:
    return [value for field_name, value in head.headers if field_name == name]
