from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve import interfaces
from djserve.conf.schema import WebSocketConfig
from djserve.errors import ApplicationError, ProtocolError
from djserve.interfaces import Headers, RequestHead
from djserve.protocols.websocket.connection import WebSocketConnection
from djserve.protocols.websocket.deflate import ExtensionOffer
from djserve.protocols.websocket.handshake import (
    Handshake,
    build_accept_headers,
    check_handshake,
)
from djserve.testing.transport import MemoryTransport

if TYPE_CHECKING:
    from djserve.interfaces import OpeningHandshake, WebSocket, WebSocketObserver


# The example of RFC 6455 section 1.3.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

BASE: Headers = [
    (b"host", b"example.com"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
]


def head(
    *more: tuple[bytes, bytes],
    without: bytes = b"",
    method: str = "GET",
    version: str = "1.1",
) -> RequestHead:
    fields = [field for field in BASE if field[0] != without] + list(more)
    request = RequestHead(method, b"/chat", b"", fields, version)
    request.upgrade = b"websocket"
    return request


def extended_connect(*more: tuple[bytes, bytes]) -> RequestHead:
    fields = [(b"sec-websocket-version", b"13"), *more]
    request = RequestHead("CONNECT", b"/chat", b"", fields, "2")
    request.upgrade = b"websocket"
    request.has_body = True
    return request


def refuse(request: RequestHead) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        check_handshake(request)
    return caught.value


class NoObserver:
    def message_received(self, data: str | bytes) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def test_plain_handshake_is_read() -> None:
    assert check_handshake(head()) == Handshake(KEY, [], [], None)


def test_subprotocols_are_listed_once_in_their_order() -> None:
    request = head(
        (b"sec-websocket-protocol", b"chat.v2 ,, chat.v1"),
        (b"sec-websocket-protocol", b"chat.v2,graphql-ws"),
    )

    assert check_handshake(request).subprotocols == ["chat.v2", "chat.v1", "graphql-ws"]


def test_origin_is_read() -> None:
    request = head((b"origin", b"https://example.com"))

    assert check_handshake(request).origin == "https://example.com"


def test_two_origins_are_refused() -> None:
    assert refuse(head((b"origin", b"a"), (b"origin", b"b"))).status == 400


@pytest.mark.parametrize(
    ("value", "offers"),
    [
        (b"permessage-deflate", [ExtensionOffer("permessage-deflate")]),
        (
            b'A; b=1;C="d" ; e , f',
            [
                ExtensionOffer("a", (("b", "1"), ("c", "d"), ("e", None))),
                ExtensionOffer("f"),
            ],
        ),
        (b", ,a", [ExtensionOffer("a")]),
        (b"a, b c, d", [ExtensionOffer("a")]),
        (b"a; b=\xff", []),
        (b"\xff", []),
        (b"a; b=", []),
        (b"", []),
    ],
)
def test_extensions_are_read_as_far_as_they_make_sense(
    value: bytes, offers: list[ExtensionOffer]
) -> None:
    request = head((b"sec-websocket-extensions", value))

    assert check_handshake(request).extensions == offers


def test_offers_are_counted() -> None:
    request = head(*[(b"sec-websocket-extensions", b"a," * 30)] * 5)

    assert len(check_handshake(request).extensions) == 16


@pytest.mark.parametrize("value", [b"\xc3\xbc", b"a b", b'"a"', b"a/b", b"a,(b)"])
def test_subprotocol_that_is_no_token_is_refused(value: bytes) -> None:
    assert refuse(head((b"sec-websocket-protocol", value))).status == 400


@given(st.binary(max_size=80))
def test_garbage_in_any_field_is_never_another_exception(value: bytes) -> None:
    for name in (b"protocol", b"extensions", b"key", b"version"):
        name = b"sec-websocket-" + name
        try:
            check_handshake(head((name, value), without=name))
        except ProtocolError as error:
            assert error.status in (400, 426)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"short",
        b"dGhlIHNhbXBsZSBub25jZQ=",
        b"dGhlIHNhbXBsZSBub25jZTE=",
        b"dGhlIHNhbXBsZSBub25j",
        b"dGhlIHNhbXBsZSBub25jZQ==\xff",
        b"dGhlIHNh*XBsZSBub25jZQ==",
        b"dGhlIHNhbXBsZSBub25jZQ==dGhl",
    ],
)
def test_bad_key_is_refused(key: bytes) -> None:
    request = head((b"sec-websocket-key", key), without=b"sec-websocket-key")

    assert refuse(request).status == 400


def test_missing_key_is_refused() -> None:
    assert refuse(head(without=b"sec-websocket-key")).status == 400


def test_repeated_key_is_refused() -> None:
    assert refuse(head((b"sec-websocket-key", KEY))).status == 400


@pytest.mark.parametrize(
    "more",
    [
        [],
        [(b"sec-websocket-version", b"8")],
        [(b"sec-websocket-version", b"13, 8")],
        [(b"sec-websocket-version", b"\xff")],
    ],
    ids=["missing", "old", "list", "garbage"],
)
def test_other_version_gets_426_and_the_version_that_would_do(more: Headers) -> None:
    error = refuse(head(*more, without=b"sec-websocket-version"))

    assert error.status == 426
    assert (b"sec-websocket-version", b"13") in error.headers
    assert (b"upgrade", b"websocket") in error.headers
    assert (b"connection", b"Upgrade") in error.headers


def test_repeated_version_is_refused() -> None:
    assert refuse(head((b"sec-websocket-version", b"13"))).status == 400


@pytest.mark.parametrize("method", ["POST", "CONNECT", "HEAD"])
def test_other_method_gets_405(method: str) -> None:
    error = refuse(head(method=method))

    assert (error.status, error.headers) == (405, [(b"allow", b"GET")])


@pytest.mark.parametrize("name", [b"connection", b"upgrade"])
def test_missing_upgrade_field_is_refused(name: bytes) -> None:
    assert refuse(head(without=name)).status == 400


def test_http_1_0_is_refused() -> None:
    assert refuse(head(version="1.0")).status == 400


def test_content_is_refused() -> None:
    request = head()
    request.has_body = True

    assert refuse(request).status == 400


def test_extended_connect_needs_no_key() -> None:
    request = extended_connect((b"sec-websocket-protocol", b"chat"))

    assert check_handshake(request) == Handshake(None, ["chat"], [], None)


def test_get_over_http_2_is_refused() -> None:
    assert refuse(head(version="2")).headers == [(b"allow", b"CONNECT")]


def test_other_version_over_http_2_gets_400() -> None:
    request = extended_connect()
    request.headers = []

    error = refuse(request)

    assert error.status == 400
    assert error.headers == [(b"sec-websocket-version", b"13")]


def test_accept_answers_the_key() -> None:
    fields = build_accept_headers(check_handshake(head()), None, None)

    assert fields == [(b"sec-websocket-accept", ACCEPT)]


def test_accept_over_http_2_has_no_key_to_answer() -> None:
    assert build_accept_headers(check_handshake(extended_connect()), None, None) == []


def test_accept_names_the_subprotocol_and_adds_the_applications_fields() -> None:
    handshake = check_handshake(head((b"sec-websocket-protocol", b"a, b")))
    fields = build_accept_headers(handshake, "b", None, [(b"Set-Cookie", b"c=1")])

    assert fields[1:] == [(b"sec-websocket-protocol", b"b"), (b"set-cookie", b"c=1")]


def test_subprotocol_that_was_not_offered_is_an_application_error() -> None:
    handshake = check_handshake(head((b"sec-websocket-protocol", b"a")))

    with pytest.raises(ApplicationError, match=r"offered, \['a'\], got 'b'"):
        build_accept_headers(handshake, "b", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Sec-WebSocket-Protocol", b"chat"),
        (b"sec-websocket-accept", b"x"),
        (b"connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"content-length", b"0"),
        (b"transfer-encoding", b"chunked"),
        (b"x-a", b"a\r\nb: c"),
        (b"x a", b"b"),
        (b"", b"b"),
    ],
)
def test_field_that_cannot_be_added_is_an_application_error(
    name: bytes, value: bytes
) -> None:
    with pytest.raises(ApplicationError):
        build_accept_headers(check_handshake(head()), None, None, [(name, value)])


@pytest.mark.parametrize("enabled", [True, False])
def test_compression_is_agreed_on_where_it_is_enabled(enabled: bool) -> None:
    handshake = check_handshake(
        head((b"sec-websocket-extensions", b"permessage-deflate"))
    )
    config = WebSocketConfig(websocket_compression=enabled)
    fields, connection = handshake.accept(NoObserver(), config, write_timeout=30)

    assert (b"sec-websocket-extensions" in dict(fields)) is enabled
    assert connection.is_open


class RecordingObserver:
    """Record what a connection tells its exchange."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def message_received(self, data: str | bytes) -> None:
        self.told.append(data)

    def closed(self, code: int, reason: str) -> None:
        self.told.append((code, reason))

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


def public_names(interface: type) -> set[str]:
    return {name for name in dir(interface) if not name.startswith("_")}


def test_accepted_handshake_carries_messages_between_exchange_and_client() -> None:
    handshake: OpeningHandshake[WebSocketConfig] = Handshake(None)
    exchange = RecordingObserver()
    observer: WebSocketObserver = exchange
    connection: WebSocket
    fields, connection = handshake.accept(
        observer, WebSocketConfig(), subprotocol=None, headers=(), write_timeout=30.0
    )
    transport = MemoryTransport(connection)
    connection.attach(transport)

    connection.send_text("a")
    connection.send_binary(b"b")
    transport.feed(b"\x81\x81\0\0\0\0c")
    connection.close(1000, "")
    transport.feed(b"\x88\x82\0\0\0\0\x03\xe8")

    assert fields == []
    assert transport.take() == b"\x81\x01a\x82\x01b\x88\x02\x03\xe8"
    assert exchange.told == ["c", (1000, "")]


def test_connection_has_each_method_that_is_asked_for() -> None:
    asked = public_names(interfaces.WebSocket)

    assert asked <= public_names(WebSocketConnection)
    assert {"attach", "send_text", "close", "tick", "drain"} <= asked
