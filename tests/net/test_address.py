from __future__ import annotations

import pytest

from djserve.net.address import (
    Address,
    EndpointAddress,
    FDAddress,
    TCPAddress,
    UnixAddress,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TCPAddress("127.0.0.1", 8000)),
        (" localhost:0 ", TCPAddress("localhost", 0)),
        ("[::1]:8000", TCPAddress("::1", 8000)),
        ("[fe80::1%eth0]:80", TCPAddress("fe80::1%eth0", 80)),
        ("[::ffff:1.2.3.4]:80", TCPAddress("::ffff:1.2.3.4", 80)),
        (":8000", TCPAddress("", 8000)),
        ("*:8000", TCPAddress("", 8000)),
        ("tcp.:8000", TCPAddress("tcp.", 8000)),
        ("unix:/run/djserve.sock", UnixAddress("/run/djserve.sock")),
        ("unix:relative.sock", UnixAddress("relative.sock")),
        ("fd://3", FDAddress(3)),
        ("fd:3", FDAddress(3)),
    ],
)
def test_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8000",
        "tcp:8000:interface=127.0.0.1",
        "tcp6:8000",
        "ssl:port=443:privateKey=/etc/key.pem:certKey=/etc/cert.pem",
        "tls:/etc/certificates",
        "systemd:domain=INET:index=0",
        "haproxy:tcp:8000",
        "stdio:",
        "unix:/run/djserve.sock:mode=660",
        "unix:address=/run/djserve.sock",
        "le:/etc/certificates:tcp:443",
        "onion:port=80",
    ],
)
def test_endpoint_string_is_left_to_twisted(text: str) -> None:
    assert parse_address(text) == EndpointAddress(text)


@pytest.mark.parametrize(
    ("text", "is_tls"),
    [
        ("tcp:80", False),
        ("haproxy:tcp:80", False),
        ("ssl:443", True),
        ("tls:/etc/certificates", True),
        ("haproxy:ssl:443", True),
        ("haproxy:tls:/etc/certificates", True),
    ],
)
def test_endpoint_knows_whether_it_speaks_tls(text: str, is_tls: bool) -> None:
    assert EndpointAddress(text).is_tls is is_tls


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("8000", "without a port"),
        ("localhost", "without a port"),
        ("[::1]", "without a port"),
        ("localhost:", "from 0 to 65535"),
        ("localhost:http", "from 0 to 65535"),
        ("localhost:65536", "from 0 to 65535"),
        ("localhost:-1", "from 0 to 65535"),
        ("localhost:\uff18\uff10", "from 0 to 65535"),
        ("::1:8000", r"needs brackets, as in \[::1\]:8000"),
        ("[localhost]:8000", "IPv6 address in brackets"),
        ("[::1:8000", "IPv6 address in brackets"),
        ("my host:8000", "not a host name"),
        ("user@host:8000", "not a host name"),
        ("unix:", "expected a path"),
        ("unix:/a\0b", "null character"),
        ("fd://", "expected a file descriptor"),
        ("fd://stdin", "expected a file descriptor"),
    ],
)
def test_wrong_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8000",
        "[::1]:8000",
        "*:80",
        "unix:/a/b",
        "fd://3",
        "tcp:80:interface=::1",
    ],
)
def test_text_of_an_address_is_read_back_the_same(text: str) -> None:
    assert str(parse_address(text)) == text
