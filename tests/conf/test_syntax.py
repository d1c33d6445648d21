from __future__ import annotations

import pytest

from djserve.conf.parser import Flag, parse
from djserve.conf.syntax import (
    RULES,
    is_host_only,
    is_ipv6_address,
    parse_duration,
    parse_size,
)
from djserve.errors import ConfigError
from djserve.net.address import parse_address

GOOD = [
    ("address", "127.0.0.1:8000"),
    ("address", "localhost:0"),
    ("address", "[::1]:8000"),
    ("address", ":8000"),
    ("address", "*:8000"),
    ("address", "unix:/run/a b.sock"),
    ("address", "fd://3"),
    ("address", "tcp:8000:interface=127.0.0.1"),
    ("address", "systemd:domain=INET:index=0"),
    ("datagram-address", "127.0.0.1:8125"),
    ("datagram-address", "statsd.example:1"),
    ("datagram-address", "[::1]:8125"),
    ("datagram-address", "unix:/run/statsd.sock"),
    ("statsd-name", "web.shop_1"),
    ("statsd-name", ""),
    ("statsd-tag", "env:production"),
    ("network", "10.0.0.0/8"),
    ("network", "192.0.2.1"),
    ("network", "2001:db8::/32"),
    ("network", "unix"),
    ("network", "private"),
    ("network", "*"),
    ("origin", "https://example.com"),
    ("origin", "http://localhost:3000"),
    ("origin", "https://*.example.com"),
    ("origin", "https://[2001:db8::1]:8443"),
    ("origin", "chrome-extension://abcdef"),
    ("origin", "https://example.com/"),
    ("https-url", "https://example.com"),
    ("https-url", "https://[::1]:14000/directory"),
    ("origin", "null"),
    ("origin", "file://"),
    ("origin", "*"),
    ("root-path", ""),
    ("root-path", "/app"),
    ("field-name", "X-Real-IP"),
    ("field-value", ""),
    ("field-value", "djserve (test)"),
    ("file", "access.log"),
    ("file", "-"),
    ("log-format", "%(message)s"),
    ("log-format", "%(asctime)s %(request_id)s %(message)s"),
]

BAD = [
    ("datagram-address", ""),
    ("datagram-address", "statsd"),
    ("datagram-address", ":8125"),
    ("datagram-address", "a b:8125"),
    ("datagram-address", "statsd:0"),
    ("datagram-address", "statsd:65536"),
    ("datagram-address", "unix:"),
    ("datagram-address", "fd://3"),
    ("statsd-name", "web:shop"),
    ("statsd-name", "a b"),
    ("statsd-tag", ""),
    ("statsd-tag", "a,b"),
    ("statsd-tag", "a|b"),
    ("statsd-tag", "a\nb"),
    ("address", ""),
    ("address", "localhost"),
    ("address", "::1"),
    ("address", "[::1]"),
    ("address", "localhost:65536"),
    ("address", "localhost:8000 "),
    ("address", "local\nhost:8000"),
    ("address", "unix:"),
    ("address", "fd://x"),
    ("address", "fd://"),
    ("address", "a:"),
    ("network", "10.0.0.1/8"),
    ("network", "localhost"),
    ("network", ""),
    ("origin", "example.com"),
    ("https-url", "http://example.com/"),
    ("https-url", "https://"),
    ("https-url", "https://:443/"),
    ("https-url", "https:///directory"),
    ("https-url", "https://[::1/directory"),
    ("https-url", "https://example.com:99999/"),
    ("https-url", "https://example.com:port/"),
    ("https-url", "https://a b/"),
    ("origin", "https://example.com//"),
    ("origin", "https://"),
    ("origin", "https://a.*.com"),
    ("origin", "NULL"),
    ("origin", "file:///"),
    ("root-path", "app"),
    ("field-name", ""),
    ("field-name", "X Real"),
    ("field-name", "X-Real-IP:"),
    ("field-name", "Höst"),
    ("field-value", "a\r\nSet-Cookie: x"),
    ("field-value", "é"),
    ("file", ""),
    ("file", "a\0b"),
    ("log-format", "plain"),
    ("log-format", "%(message"),
    ("log-format", "%(mesage)s"),
    ("log-format", "%(message)d"),
]


@pytest.mark.parametrize(("rule", "text"), GOOD)
def test_good_text_passes(rule: str, text: str) -> None:
    RULES[rule].check(text)


@pytest.mark.parametrize(("rule", "text"), BAD)
def test_bad_text_is_refused(rule: str, text: str) -> None:
    with pytest.raises(ValueError):
        RULES[rule].check(text)


@pytest.mark.parametrize("text", [text for rule, text in GOOD if rule == "address"])
def test_address_that_passes_is_read_by_the_listener(text: str) -> None:
    parse_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("*", True),
        ("localhost:80", False),
        ("[::1]:80", False),
        ("unix:/run/x", False),
        ("tcp:80:interface=::1", False),
    ],
)
def test_host_only_is_told_from_a_whole_address(text: str, expected: bool) -> None:
    assert is_host_only(text) is expected


def test_ipv6_address_is_told_from_ipv4() -> None:
    assert is_ipv6_address("fe80::1%eth0")
    assert not is_ipv6_address("127.0.0.1")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1.5 h", 5400),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("64KiB", 65536),
        ("64k", 65536),
        ("1.5MiB", 1572864),
        ("2 GB", 2 * 10**9),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "s", "5 weeks", "5M5", "-5s", "1e3s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "KiB", "1.5", "0.3KiB", "5 s", "-1KiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_units_are_understood_in_settings_and_flags() -> None:
    config = parse(
        {"HEADER_TIMEOUT": "5m", "BODY_SIZE_LIMIT": Flag("--body-size-limit", "1GiB")}
    )

    assert config.http.header_timeout == 300.0
    assert config.http.body_size_limit == 2**30


def test_what_is_no_size_takes_no_unit() -> None:
    with pytest.raises(ConfigError, match="expected a whole number from 1 to "):
        parse({"BACKLOG": Flag("--backlog", "2KiB")})
    with pytest.raises(ConfigError, match="expected a whole number"):
        parse({"BACKLOG": "2048"})
