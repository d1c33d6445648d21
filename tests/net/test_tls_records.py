"""Records on their way to OpenSSL: all data arrives, and empty ones have a bound."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djserve.net.tls import server_context
from djserve.net.tls_records import EMPTY_LIMIT, TooManyEmptyRecords
from tests.support.tls13 import RecordWriter, client_context


class Session:
    """A server's TLS after the handshake, as an event loop uses it."""

    def __init__(self, certfile: str, folder: Path) -> None:
        self.incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = server_context(certfile)
        self.tls = context.wrap_bio(self.incoming, outgoing, server_side=True)
        back, forth = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(folder).wrap_bio(back, forth)
        for side in (client, self.tls, client, self.tls):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.incoming.write(forth.read())
            back.write(outgoing.read())
        cipher = client.cipher()
        assert cipher is not None
        self.writer = RecordWriter(folder, cipher[0])

    def receive(self, data: bytes) -> bytes:
        """Let some bytes arrive; return what is read until there is no more."""
        self.incoming.write(data)
        got = b""
        while True:
            try:
                got += self.tls.read(256 * 1024)
            except ssl.SSLWantReadError:
                return got


@pytest.fixture(scope="module")
def certfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def session(certfile: str, tmp_path: Path) -> Session:
    return Session(certfile, tmp_path)


def test_records_alone_together_and_in_parts_give_their_data(session: Session) -> None:
    write = session.writer.data
    assert session.receive(write(b"one")) == b"one"
    assert session.receive(write(b"two") + write(b"three")) == b"twothree"
    assert session.receive(write(b"four")) == b"four"
    parts = write(b"five") + write(b"six")
    got = [session.receive(bytes([byte])) for byte in parts]
    assert b"".join(got) == b"fivesix"
    assert session.receive(b"".join(write(b"x") for _ in range(1000))) == b"x" * 1000
    assert session.receive(write(b"y" * 16384) * 1) == b"y" * 16384


@pytest.mark.parametrize("size", [1, 3000, 100_000])
def test_reads_of_part_of_a_record_give_the_rest_later(
    session: Session, size: int
) -> None:
    content = bytes(range(250)) * 60
    session.incoming.write(session.writer.data(content) + session.writer.data(b"end"))
    buffer = bytearray(size)
    got = b""
    while not got.endswith(b"end"):
        count: Any = session.tls.read(size, buffer)
        got += buffer[:count]

    assert got == content + b"end"


def test_data_that_arrives_between_two_reads_keeps_its_order(session: Session) -> None:
    write = session.writer.data
    session.incoming.write(b"".join(write(b"%d " % number) for number in range(100)))
    got = session.tls.read(1024)
    session.incoming.write(write(b"100 ") + write(b"101 ")[:7])
    got += session.receive(b"")

    assert got == b"".join(b"%d " % number for number in range(101))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    contents=st.lists(st.binary(min_size=1, max_size=3000), max_size=80),
    cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=50),
)
def test_no_cut_changes_what_is_read(
    certfile: str, tmp_path: Path, contents: list[bytes], cuts: list[int]
) -> None:
    session = Session(certfile, tmp_path)
    data = b"".join(session.writer.data(content) for content in contents)
    got = [session.receive(piece) for piece in cut(data, cuts)]

    assert b"".join(got) == b"".join(contents)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    number = 0
    while data:
        size = sizes[number % len(sizes)]
        yield data[:size]
        data = data[size:]
        number += 1


def test_end_is_read_as_often_as_it_is_asked_for(certfile: str, tmp_path: Path) -> None:
    session = Session(certfile, tmp_path)
    session.incoming.write(session.writer.data(b"last") + session.writer.end())
    reads = [session.tls.read(1024) for _ in range(4)]

    assert reads == [b"last", b"", b"", b""]


def test_session_without_a_record_waits_for_one(session: Session) -> None:
    for _ in range(2):
        with pytest.raises(ssl.SSLWantReadError):
            session.tls.read(1024)
    assert session.receive(session.writer.data(b"one")) == b"one"
    with pytest.raises(ssl.SSLWantReadError):
        session.tls.read(1024)


def test_key_updates_of_an_honest_peer_are_taken(session: Session) -> None:
    for _ in range(3):
        assert session.receive(session.writer.key_updates(1)) == b""
        updates = session.writer.key_updates(2)
        assert session.receive(updates + session.writer.data(b"a")) == b"a"
    # As many as there is data for.
    for _ in range(5 * EMPTY_LIMIT):
        data = session.writer.data(b"b" * 16384) + session.writer.key_updates(1)
        assert session.receive(data) == b"b" * 16384


def test_padded_records_are_data(session: Session) -> None:
    for _ in range(3):
        pieces = [session.writer.data(b"a", padding=1000) for _ in range(100)]
        assert session.receive(b"".join(pieces)) == b"a" * 100


@pytest.mark.parametrize("first", [b"", b"a"])
def test_flood_of_key_updates_ends_the_connection_early(
    session: Session, first: bytes
) -> None:
    """However many come at once, OpenSSL sees no more than may come."""
    start = session.writer.data(first) if first else b""
    flood = session.writer.key_updates(2000)
    with pytest.raises(TooManyEmptyRecords):
        session.receive(start + flood)

    assert session.incoming.pending > len(flood) * 0.9


def test_flood_beside_a_little_data_ends_the_connection(session: Session) -> None:
    pieces = [
        session.writer.key_updates(1) + session.writer.data(b"a") for _ in range(100)
    ]
    with pytest.raises(TooManyEmptyRecords):
        session.receive(b"".join(pieces))


def test_flood_in_small_turns_ends_the_connection(session: Session) -> None:
    with pytest.raises(TooManyEmptyRecords):
        for _ in range(100):
            session.receive(session.writer.key_updates(2))


def test_flood_behind_part_of_a_record_ends_the_connection(session: Session) -> None:
    record = session.writer.data(b"a" * 100)
    assert session.receive(record[:50]) == b""
    with pytest.raises(TooManyEmptyRecords):
        session.receive(record[50:] + session.writer.key_updates(500))


def test_flood_instead_of_the_end_is_cut_off(session: Session) -> None:
    """Our own close_notify is sent; what comes instead of the peer's has a bound."""
    with pytest.raises(ssl.SSLWantReadError):
        session.tls.unwrap()
    session.incoming.write(session.writer.key_updates(2000))
    with pytest.raises(ssl.SSLError):
        for _ in range(20):
            with pytest.raises(ssl.SSLWantReadError):
                session.tls.unwrap()
            session.incoming.write(session.writer.key_updates(30))
