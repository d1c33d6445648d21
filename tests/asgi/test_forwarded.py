from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.asgi.forwarded import (
    Forwarded,
    ProxyHeaders,
    TrustedProxies,
    parse_element,
    parse_node,
)
from djserve.conf.schema import ProxyConfig
from djserve.errors import ConfigError
from djserve.interfaces import ConnectionInfo, RequestHead

PROXY = "10.0.0.1"
CONFIG = ProxyConfig(proxy_headers=True, trusted_proxies=("10.0.0.0/8", "fd00::/8"))
RFC7239 = ProxyConfig(
    proxy_headers=True, trusted_proxies=("10.0.0.0/8",), proxy_headers_host="Forwarded"
)


def connection(host: str = PROXY) -> ConnectionInfo:
    return ConnectionInfo((host, 40000), ("127.0.0.1", 8000))


def request(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead("GET", b"/", b"", list(fields), "1.1")


def apply(*fields: tuple[bytes, bytes], config: ProxyConfig = CONFIG) -> Forwarded:
    said = ProxyHeaders(config).apply(request(*fields), connection())
    assert said is not None
    return said


def client_of(value: bytes) -> tuple[str, int] | None:
    return apply((b"x-forwarded-for", value)).client


# Trusted proxies


@pytest.mark.parametrize(
    ("networks", "host"),
    [
        pytest.param(("10.0.0.0/8",), "10.200.0.9", id="network"),
        pytest.param(("10.0.0.7",), "10.0.0.7", id="single address"),
        pytest.param(("10.0.0.1/8",), "10.9.9.9", id="network with host bits"),
        pytest.param(("fd00::/8",), "fd00::12", id="IPv6 network"),
        pytest.param(("10.0.0.0/8",), "::ffff:10.1.1.1", id="mapped peer"),
        pytest.param(("::ffff:10.0.0.0/104",), "10.1.1.1", id="mapped network"),
        pytest.param(("fe80::/10",), "fe80::1%eth0", id="link-local peer with a zone"),
        pytest.param(("*",), "203.0.113.7", id="everyone"),
        *(
            pytest.param(("private",), host, id=f"private: {host}")
            for host in (
                "127.0.0.1",
                "::1",
                "10.1.45.23",
                "172.31.0.2",
                "::ffff:172.17.0.1",
                "192.168.1.1",
                "100.64.0.3",
                "169.254.169.126",
                "fdaa:0:1::3",
                "fe80::1%eth0",
            )
        ),
    ],
)
def test_address_inside_the_networks_is_trusted(
    networks: tuple[str, ...], host: str
) -> None:
    assert TrustedProxies(networks).trusts(host)


@pytest.mark.parametrize(
    "host", ["11.0.0.1", "::1", "fd00::1", "", "unix", "10.0.0", "1" * 5000]
)
def test_anything_else_is_not_trusted(host: str) -> None:
    assert not TrustedProxies(("10.0.0.0/8", "unix")).trusts(host)


@pytest.mark.parametrize(
    "host", ["172.32.0.1", "11.0.0.1", "100.128.0.1", "203.0.113.7", "2001:db8::1", ""]
)
def test_address_of_the_internet_is_not_private(host: str) -> None:
    assert not TrustedProxies(("private",)).trusts(host)


def test_client_behind_a_private_router_cannot_choose_its_address() -> None:
    """The router appends; what stands to the left is the client's own claim."""
    config = ProxyConfig(proxy_headers=True, trusted_proxies=("private",))
    fields = (b"x-forwarded-for", b"203.0.113.1, 10.6.6.6, 198.51.100.9")

    assert apply(fields, config=config).client == ("198.51.100.9", 0)


@pytest.mark.parametrize(
    ("networks", "trusted"),
    [(("unix",), True), (("*",), True), (("127.0.0.0/8",), False)],
)
def test_unix_peers_need_explicit_trust(
    networks: tuple[str, ...], trusted: bool
) -> None:
    peer = ConnectionInfo(None, ("/run/djserve.sock", None), is_unix=True)

    assert TrustedProxies(networks).trusts_peer(peer) is trusted


def test_peer_without_an_address_is_not_trusted() -> None:
    assert not TrustedProxies(("10.0.0.0/8",)).trusts_peer(ConnectionInfo(None, None))


def test_all_wrong_networks_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        TrustedProxies(("10.0.0.0/33", "10.0.0.0/8", "proxy.example"))

    assert [p.split("'")[1] for p in caught.value.problems] == [
        "10.0.0.0/33",
        "proxy.example",
    ]


def test_cache_of_addresses_is_bounded() -> None:
    trusted = TrustedProxies(("10.0.0.0/8",))
    for number in range(3000):
        trusted.trusts(f"10.0.{number // 256}.{number % 256}")

    assert trusted._lookup.cache_info().currsize <= 1024


# Who is believed


def test_nothing_is_read_when_proxy_headers_are_off() -> None:
    head = request((b"x-forwarded-for", b"203.0.113.7"))

    assert ProxyHeaders(ProxyConfig()).apply(head, connection("127.0.0.1")) is None


def test_nothing_is_read_from_an_untrusted_peer() -> None:
    head = request(
        (b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-proto", b"https")
    )

    assert ProxyHeaders(CONFIG).apply(head, connection("198.51.100.1")) is None


def test_request_without_proxy_headers_says_nothing() -> None:
    head = request((b"host", b"example.com"))

    assert ProxyHeaders(CONFIG).apply(head, connection()) is None


# X-Forwarded-For


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"203.0.113.7", ("203.0.113.7", 0)),
        (b"203.0.113.7:567", ("203.0.113.7", 567)),
        (b"2001:DB8:0::1", ("2001:db8::1", 0)),
        (b"[2001:db8::1]", ("2001:db8::1", 0)),
        (b"[2001:db8::1]:567", ("2001:db8::1", 567)),
        (b"::ffff:203.0.113.7", ("203.0.113.7", 0)),
        (b" \t203.0.113.7 ", ("203.0.113.7", 0)),
        (b"203.0.113.7, ", ("203.0.113.7", 0)),
        (b",,203.0.113.7,,", ("203.0.113.7", 0)),
        # A client's own claim stands to the left of what the proxy saw.
        (b"1.1.1.1, 203.0.113.7", ("203.0.113.7", 0)),
        (b"1.1.1.1, 203.0.113.7, 10.0.0.2", ("203.0.113.7", 0)),
        (b"203.0.113.7, 10.0.0.3, fd00::2, 10.0.0.2", ("203.0.113.7", 0)),
        (b"203.0.113.7, ::ffff:10.0.0.2", ("203.0.113.7", 0)),
        # All hops trusted: the farthest is the client.
        (b"10.0.0.3, 10.0.0.2", ("10.0.0.3", 0)),
        # Malformed items end the walk at the last good hop.
        (b"garbage, 10.0.0.2", ("10.0.0.2", 0)),
        (b"203.0.113.7, unknown, 10.0.0.2", ("10.0.0.2", 0)),
        (b"1.1.1.1, 10.0.0.256, 10.0.0.2", ("10.0.0.2", 0)),
    ],
)
def test_client_is_the_rightmost_untrusted_hop(
    value: bytes, client: tuple[str, int]
) -> None:
    assert client_of(value) == client


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" , ,",
        b"garbage",
        b"203.0.113.7, unknown",
        b"203.0.113.7, _hidden",
        b"203.0.113",
        b"0203.0.113.7",
        b"203.0.113.7:",
        b"203.0.113.7:0",
        b"203.0.113.7:65536",
        b"203.0.113.7:+80",
        b"203.0.113.7:\xb2",
        b"203.0.113.7 203.0.113.8",
        b"[203.0.113.7]",
        b"[2001:db8::1",
        b"[2001:db8::1]567",
        b"2001:db8::1]:567",
        b"fe80::1%eth0",
        b'"203.0.113.7"',
        b"203.0.113.7\x00",
        b"203.0.113.7\r\n1.1.1.1",
        b"1" * 60000,
    ],
)
def test_malformed_nearest_hop_leaves_the_connection_client(value: bytes) -> None:
    assert client_of(value) is None


def test_repeated_field_lines_are_one_list() -> None:
    said = apply(
        (b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"203.0.113.7, 10.0.0.2")
    )

    assert said.client == ("203.0.113.7", 0)


def test_trusting_everyone_takes_the_leftmost_hop() -> None:
    config = ProxyConfig(proxy_headers=True, trusted_proxies=("*",))
    said = apply((b"x-forwarded-for", b"203.0.113.7, 1.1.1.1"), config=config)

    assert said.client == ("203.0.113.7", 0)


def test_unix_proxy_gives_the_client() -> None:
    peer = ConnectionInfo(None, ("/run/djserve.sock", None), is_unix=True)
    head = request((b"x-forwarded-for", b"203.0.113.7"))
    said = ProxyHeaders(ProxyConfig(proxy_headers=True)).apply(head, peer)

    assert said is not None
    assert said.client == ("203.0.113.7", 0)


# X-Forwarded-Proto, -Host and -Port


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        (b"https", "https"),
        (b"HTTP", "http"),
        (b"wss", "https"),
        (b"ws", "http"),
        (b"https, http", "http"),
        (b"ftp", None),
        (b"", None),
        (b"https\x00", None),
    ],
)
def test_scheme_is_http_or_https(value: bytes, scheme: str | None) -> None:
    assert apply((b"x-forwarded-proto", value)).scheme == scheme


def test_parallel_lists_give_the_values_of_the_client_hop() -> None:
    said = apply(
        (b"x-forwarded-for", b"1.1.1.1, 203.0.113.7, 10.0.0.2"),
        (b"x-forwarded-proto", b"http, https, http"),
        (b"x-forwarded-host", b"evil.example, www.example, inner.example"),
        (b"x-forwarded-port", b"1, 443, 8080"),
    )

    assert (said.scheme, said.host, said.port) == ("https", b"www.example", 443)


def test_lists_of_another_length_give_the_nearest_value() -> None:
    said = apply(
        (b"x-forwarded-for", b"203.0.113.7, 10.0.0.3, 10.0.0.2"),
        (b"x-forwarded-proto", b"https, http"),
        (b"x-forwarded-host", b"evil.example, www.example"),
    )

    assert (said.scheme, said.host) == ("http", b"www.example")


def test_parallel_lists_with_no_good_hop_give_the_nearest_value() -> None:
    said = apply(
        (b"x-forwarded-for", b"1.1.1.1, garbage"),
        (b"x-forwarded-proto", b"https, http"),
    )

    assert said.scheme == "http"


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (b"www.example", None),
        (b"www.example:8443", 8443),
        (b"[2001:db8::1]:8443", 8443),
        (b"192.0.2.1", None),
    ],
)
def test_forwarded_host_may_have_a_port(value: bytes, port: int | None) -> None:
    said = apply((b"x-forwarded-host", value))

    assert (said.host, said.port) == (value, port)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a b",
        b"www.example:",
        b"www.example:99999",
        b"user@www.example",
        b"www.example/path",
        b"www.example\r\nx: y",
        b"w\xfcw.example",
        b"2001:db8::1",
        b"w" * 300,
    ],
)
def test_malformed_host_is_ignored(value: bytes) -> None:
    said = apply((b"x-forwarded-host", value))

    assert (said.host, said.port) == (None, None)


def test_forwarded_port_goes_before_the_port_of_the_host() -> None:
    said = apply((b"x-forwarded-host", b"www.example:1"), (b"x-forwarded-port", b"443"))

    assert said.port == 443


@pytest.mark.parametrize(
    "value", [b"", b"0", b"65536", b"-1", b"https", b"\xb2", b"4 3"]
)
def test_malformed_port_is_ignored(value: bytes) -> None:
    assert apply((b"x-forwarded-port", value)).port is None


def test_settings_rename_the_address_and_port_headers() -> None:
    config = ProxyConfig(
        proxy_headers=True,
        trusted_proxies=("10.0.0.0/8",),
        proxy_headers_host="X-Real-IP",
        proxy_headers_port="X-Real-Port",
    )
    said = apply(
        (b"x-forwarded-for", b"1.1.1.1"),
        (b"x-forwarded-port", b"1"),
        (b"x-real-ip", b"203.0.113.7"),
        (b"x-real-port", b"443"),
        config=config,
    )

    assert (said.client, said.port) == (("203.0.113.7", 0), 443)


# RFC 7239


@pytest.mark.parametrize(
    ("value", "client", "scheme", "host"),
    [
        (b"for=203.0.113.7", ("203.0.113.7", 0), None, None),
        (b'for="203.0.113.7:567"', ("203.0.113.7", 567), None, None),
        (b'For="[2001:db8::1]:567"', ("2001:db8::1", 567), None, None),
        (b'for="[2001:db8::1]:_port"', ("2001:db8::1", 0), None, None),
        (b'for="203.0.113\\.7"', ("203.0.113.7", 0), None, None),
        (
            b"for=203.0.113.7; proto=https ;host=www.example",
            ("203.0.113.7", 0),
            "https",
            b"www.example",
        ),
        (
            b"for=1.1.1.1;proto=https, for=203.0.113.7;proto=http, for=10.0.0.2",
            ("203.0.113.7", 0),
            "http",
            None,
        ),
        (
            b"for=203.0.113.7;proto=https, for=10.0.0.2",
            ("203.0.113.7", 0),
            "https",
            None,
        ),
        (b"for=_hidden;proto=https, for=10.0.0.2", ("10.0.0.2", 0), "https", None),
        (b"for=1.1.1.1, for=unknown;proto=https", None, "https", None),
        (b"proto=https;by=10.0.0.1", None, "https", None),
    ],
)
def test_forwarded_gives_the_element_of_the_client_hop(
    value: bytes, client: tuple[str, int] | None, scheme: str | None, host: bytes | None
) -> None:
    said = apply((b"forwarded", value), config=RFC7239)

    assert (said.client, said.scheme, said.host) == (client, scheme, host)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"203.0.113.7",
        b"for=",
        b"for",
        b"for=garbage;proto=https",
        b"for=203.0.113.7;for=1.1.1.1",
        b"for=203.0.113.7;for=203.0.113.7",
        b"for=203.0.113.7;;proto=https",
        b'for="203.0.113.7',
        b'for=203.0.113.7";proto=https',
        b'for="203.0.113.7" x',
        b'for=203.0.113.7;secret="a,b"',
        b"for = 203.0.113.7",
        b"\x00\xff",
    ],
)
def test_malformed_nearest_element_is_ignored(value: bytes) -> None:
    said = apply((b"forwarded", value), config=RFC7239)

    assert (said.client, said.scheme, said.host) == (None, None, None)


def test_open_quote_of_a_client_does_not_hide_the_element_of_the_proxy() -> None:
    said = apply((b"forwarded", b'for="1.1.1.1, for=203.0.113.7'), config=RFC7239)

    assert said.client == ("203.0.113.7", 0)


def test_forwarded_is_not_read_beside_x_forwarded() -> None:
    said = apply(
        (b"forwarded", b"for=1.1.1.1;proto=https;host=evil.example"),
        (b"x-forwarded-for", b"203.0.113.7"),
    )

    assert (said.client, said.scheme, said.host) == (("203.0.113.7", 0), None, None)


def test_forwarded_alone_is_read() -> None:
    assert apply((b"forwarded", b"for=203.0.113.7")).client == ("203.0.113.7", 0)


def test_x_forwarded_is_not_read_where_forwarded_is_named() -> None:
    said = apply(
        (b"x-forwarded-for", b"1.1.1.1"),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"for=203.0.113.7"),
        config=RFC7239,
    )

    assert (said.client, said.scheme) == (("203.0.113.7", 0), None)


# The result


def test_host_is_replaced_in_a_new_list() -> None:
    headers = [(b"host", b"inner"), (b"accept", b"*/*"), (b"host", b"twice")]
    replaced = Forwarded(host=b"www.example").replace_host(headers)

    assert replaced == [(b"host", b"www.example"), (b"accept", b"*/*")]
    assert headers[0] == (b"host", b"inner")


def test_headers_stay_without_a_forwarded_host() -> None:
    headers = [(b"host", b"inner")]

    assert Forwarded().replace_host(headers) is headers


@pytest.mark.parametrize(
    ("port", "server", "expected"),
    [
        (443, ("127.0.0.1", 8000), ("127.0.0.1", 443)),
        (None, ("127.0.0.1", 8000), ("127.0.0.1", 8000)),
        (443, ("/run/djserve.sock", None), ("/run/djserve.sock", None)),
        (443, None, None),
    ],
)
def test_forwarded_port_replaces_the_port_of_the_server(
    port: int | None,
    server: tuple[str, int | None] | None,
    expected: tuple[str, int | None] | None,
) -> None:
    assert Forwarded(port=port).server(ConnectionInfo(None, server)) == expected


# Hostile input

FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"forwarded",
                b"x-forwarded-for",
                b"x-forwarded-proto",
                b"x-forwarded-host",
                b"x-forwarded-port",
            ]
        ),
        st.binary(max_size=60)
        | st.text(alphabet='forprth=;,"\\[]:._ 0123456789', max_size=60).map(
            str.encode
        ),
    ),
    max_size=6,
)


@given(fields=FIELDS, config=st.sampled_from([CONFIG, RFC7239]))
def test_no_header_raises(
    fields: list[tuple[bytes, bytes]], config: ProxyConfig
) -> None:
    said = ProxyHeaders(config).apply(request(*fields), connection())

    if said is not None and said.client is not None:
        assert parse_node(said.client[0]) == (said.client[0], 0)


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    node, element = parse_node(text), parse_element(text)

    assert node is None or 0 <= node.port <= 65535
    assert element is None or all(name == name.lower() for name in element)


@given(
    claims=st.lists(st.ip_addresses().map(str), max_size=4), seen=st.ip_addresses(v=6)
)
def test_no_claim_of_a_client_changes_what_the_proxy_saw(
    claims: list[str], seen: object
) -> None:
    node = parse_node(str(seen))
    value = ", ".join([*claims, f"[{seen}]:80"]).encode()

    if node is not None and not TrustedProxies(CONFIG.trusted_proxies).trusts(
        node.host
    ):
        assert client_of(value) == (node.host, 80)


# Bounds


def test_items_far_from_the_proxy_do_not_count() -> None:
    """However long a client's own list is, and wherever it is cut into lines."""
    own = b", ".join([b"10.9.9.9"] * 5000)
    assert client_of(b"203.0.113.7, " + own) == ("10.9.9.9", 0)
    fields = [(b"x-forwarded-for", own), (b"x-forwarded-for", b"203.0.113.8, 10.0.0.9")]
    assert apply(*fields).client == ("203.0.113.8", 0)


def test_parallel_lists_are_cut_alike() -> None:
    said = apply(
        (b"x-forwarded-for", b"10.9.9.9," * 300 + b"203.0.113.7,10.0.0.9"),
        (b"x-forwarded-proto", b"http," * 300 + b"https,http"),
    )

    assert (said.client, said.scheme) == (("203.0.113.7", 0), "https")


def test_very_long_element_is_malformed() -> None:
    pairs = ";".join(f"a{number}=b" for number in range(1000))

    assert parse_element(f"for=203.0.113.7;{pairs}") is None
