"""What is read beside the protocols: proxies' headers, origins, heads, settings."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from djserve.asgi.forwarded import ProxyHeaders, TrustedProxies
from djserve.asgi.origin import OriginPolicy, origin_allowed
from djserve.conf.catalogue import settings_by_key
from djserve.conf.parser import Flag, parse
from djserve.conf.schema import HTTPConfig, ProxyConfig, ServerConfig
from djserve.errors import ConfigError, ProtocolError
from djserve.interfaces import ConnectionInfo, RequestHead
from djserve.protocols.http1.request import HeadParser, HeadReader
from djserve.protocols.websocket.handshake import check_handshake

INFO = ConnectionInfo(("127.0.0.1", 50000), ("127.0.0.1", 80))
FORWARDED = [
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"forwarded",
]
HANDSHAKE = [
    b"connection",
    b"upgrade",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"sec-websocket-protocol",
    b"sec-websocket-extensions",
    b"origin",
]
PIECES = [
    *(
        b"127.0.0.1",
        b"203.0.113.7",
        b"::1",
        b"[2001:db8::1]:80",
        b"[",
        b"]",
        b":",
        b"%",
    ),
    *(
        b"for=",
        b"host=",
        b"proto=https",
        b'"',
        b"\\",
        b";",
        b",",
        b" ",
        b"unknown",
        b"_",
    ),
    *(b"https", b"http://", b"a.example", b"99999", b"443", b"\xff", b"\x85", b"null"),
    *(b"permessage-deflate", b"client_max_window_bits=", b"8", b"websocket", b"13"),
    *(b"Upgrade", b"keep-alive", b"MDEyMzQ1Njc4OWFiY2RlZg=="),
]

values = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=9)
values_of = values.map(b"".join)


def build_head(fields: list[tuple[bytes, bytes]]) -> RequestHead:
    return RequestHead("GET", b"/", b"", [(b"host", b"a"), *fields], "1.1")


@given(st.lists(st.tuples(st.sampled_from(FORWARDED), values_of), max_size=6))
def test_proxy_headers_yield_addresses_or_nothing(
    fields: list[tuple[bytes, bytes]],
) -> None:
    headers = ProxyHeaders(ProxyConfig(proxy_headers=True))
    forwarded = headers.apply(build_head(fields), INFO)

    if forwarded is not None:
        assert forwarded.scheme in (None, "http", "https")
        assert forwarded.port is None or 0 < forwarded.port < 65536
        if forwarded.client is not None:
            assert str(ip_address(forwarded.client[0])) == forwarded.client[0]
        assert b"\n" not in (forwarded.host or b"")


@given(values_of)
def test_client_cannot_speak_for_the_proxy_behind_it(client_says: bytes) -> None:
    """Whatever stands left of what the proxy has added changes nothing."""
    headers = ProxyHeaders(ProxyConfig(proxy_headers=True))
    fields = [(b"x-forwarded-for", client_says), (b"x-forwarded-for", b"203.0.113.7")]

    forwarded = headers.apply(build_head(fields), INFO)

    assert forwarded is not None
    assert forwarded.client == ("203.0.113.7", 0)


@given(st.text(max_size=70))
@example("127.0.0.1\n")
@example("::ffff:127.0.0.1%lo")
def test_trust_takes_any_text(host: str) -> None:
    assert TrustedProxies(["192.0.2.0/24"]).trusts(host) in (
        False,
        host.startswith(("192.0.2.", "::ffff:")),
    )


@given(values_of, values_of)
def test_origins_of_strangers_are_refused(prefix: bytes, suffix: bytes) -> None:
    policy = OriginPolicy(("inside.test",), ("https://*.inside.test",))
    origin = (prefix + b"outside.test" + suffix).decode("latin-1")

    if origin_allowed(origin, "inside.test", True, policy):
        # Only as a label below the domain that is trusted.
        assert origin.rstrip("0123456789:").endswith(".inside.test")


@given(st.lists(st.tuples(st.sampled_from(HANDSHAKE), values_of), max_size=9))
def test_handshake_is_read_or_refused(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        handshake = check_handshake(build_head(fields))
    except ProtocolError as error:
        assert 400 <= error.status < 500
    else:
        assert all(name.isascii() for name in handshake.subprotocols)


@given(values_of, st.binary(max_size=40))
def test_head_is_parsed_or_refused(target: bytes, fields: bytes) -> None:
    block = b"GET /" + target + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n"
    if block.find(b"\r\n\r\n") != len(block) - 4:
        return
    try:
        head = HeadParser(HTTPConfig(), HeadReader()).parse(block)
    except ProtocolError as error:
        assert 400 <= error.status <= 501
    else:
        assert not {b" ", b"\r", b"\n", b"\0"} & {bytes((c,)) for c in head.raw_path}


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=5,
)
flags = st.text(max_size=20).map(lambda text: Flag("--flag", text))


@given(
    st.dictionaries(
        st.sampled_from(sorted(settings_by_key())) | st.text(max_size=8),
        anything | flags,
        max_size=4,
    )
)
def test_settings_are_taken_or_every_fault_is_named(mapping: dict[str, object]) -> None:
    try:
        config = parse(mapping)
    except ConfigError as error:
        assert error.problems
        assert all(error.problems)
    else:
        assert isinstance(config, ServerConfig)


@pytest.mark.parametrize("key", [None, 1, b"BIND", ()], ids=repr)
def test_key_that_is_no_text_is_named(key: object) -> None:
    with pytest.raises(ConfigError):
        parse({key: 1})  # type: ignore[dict-item]
