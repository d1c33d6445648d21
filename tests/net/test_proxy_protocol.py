"""PROXY protocol headers, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.net.proxy_protocol import (
    SIGNATURE,
    BadHeader,
    ProxyHeader,
    missing_bytes,
    parse_header,
)

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n"
ADDRESSES = ProxyHeader(("203.0.113.9", 5555), ("192.0.2.1", 443))


def version_2(command: int, family: int, data: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(data)) + data


V2 = version_2(
    0x21,
    0x11,
    bytes([203, 0, 113, 9, 192, 0, 2, 1]) + struct.pack("!HH", 5555, 443) + b"TLV",
)


def take(stream: bytes) -> tuple[bytes, bytes]:
    """Read a header as a socket's reader does; return it and what is left."""
    data = b""
    while missing := missing_bytes(data):
        assert len(stream) > len(data), "more was wanted than there is"
        data += stream[len(data) : len(data) + missing]
    return data, stream[len(data) :]


@pytest.mark.parametrize("header", [V1, V2], ids=["version 1", "version 2"])
def test_addresses_are_read_and_nothing_after_them(header: bytes) -> None:
    data, rest = take(header + b"GET / HTTP/1.1\r\n")

    assert parse_header(data) == ADDRESSES
    assert rest == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize("header", [V1, V2], ids=["version 1", "version 2"])
@given(data=st.data())
def test_header_may_come_in_pieces(header: bytes, data: st.DataObject) -> None:
    read = b""
    while missing := missing_bytes(read):
        size = data.draw(st.integers(1, missing))
        read += header[len(read) : len(read) + size]

    assert read == header


def test_version_1_takes_ipv6() -> None:
    data, _ = take(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n")

    assert parse_header(data) == ProxyHeader(("2001:db8::1", 1), ("2001:db8::2", 2))


def test_version_2_takes_ipv6() -> None:
    addresses = bytes(15) + b"\x01" + bytes(15) + b"\x02" + struct.pack("!HH", 1, 2)

    assert parse_header(version_2(0x21, 0x21, addresses)) == ProxyHeader(
        ("::1", 1), ("::2", 2)
    )


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        version_2(0x20, 0x00, b""),
        version_2(0x21, 0x00, b""),
        version_2(0x21, 0x31, bytes(216)),
    ],
    ids=["unknown", "unknown with words", "local", "unspecified", "unix"],
)
def test_proxy_may_speak_for_itself(header: bytes) -> None:
    data, rest = take(header)

    assert parse_header(data) == ProxyHeader(None, None)
    assert rest == b""


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01" + bytes(100),
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY TCP4 1.1.1.1\n" + bytes(100),
        version_2(0x21, 0x11, bytes(5000)),
    ],
    ids=["HTTP", "TLS", "endless", "bare line feed", "too long"],
)
def test_other_bytes_are_refused(stream: bytes) -> None:
    with pytest.raises(BadHeader):
        take(stream)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 00000 80\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 080\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
        b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
        version_2(0x31, 0x11, bytes(12)),
        version_2(0x21, 0x11, bytes(11)),
    ],
)
def test_malformed_addresses_are_refused(header: bytes) -> None:
    with pytest.raises(BadHeader):
        parse_header(header)
