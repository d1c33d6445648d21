"""TLS of Twisted's endpoints: records without data have the bound that all TLS has."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from djserve.net.tls_records import EMPTY_LIMIT
from djserve.net.twisted.reactor import Reactor
from tests.e2e import upgrades
from tests.net.twisted.test_endpoints import HEADER, Accepted
from tests.support.tls13 import RecordWriter, client_context
from tests.support.waiting import settle

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:X509:DeprecationWarning"),
]

Run = Callable[..., Any]

SSL = "ssl:0:privateKey={pem}:certKey={pem}:interface=127.0.0.1"
# How TLS comes about, what is said before it, and what within it.
KINDS = {
    "ssl": (SSL, b"", b""),
    "PROXY within": (f"haproxy:{SSL}", b"", HEADER),
    "PROXY before": ("behindproxy:{pem}:0", HEADER, b""),
    "STARTTLS": ("starttls:{pem}:0", upgrades.REQUEST, b""),
}


class Session:
    """A client of an endpoint that makes its own records after the handshake."""

    def __init__(self, reactor: Reactor, kind: str, pem: str, folder: Path) -> None:
        self._reactor = reactor
        self._text, self._before, self._within = KINDS[kind]
        self._text = self._text.format(pem=pem)
        self._folder = folder

    async def __aenter__(self) -> Session:
        self._accepted = Accepted()
        port = await self._accepted.listen(self._reactor, self._text)
        self._reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(self._before)
        # TLS would come with the line that asks for it.
        await settle()
        await self._shake_hands()
        if self._within:
            self.writer.write(self.records.data(self._within))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await (await self._accepted.opened).lost
        self._accepted.close()

    async def _shake_hands(self) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(self._folder).wrap_bio(incoming, outgoing)
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(outgoing.read())
                incoming.write(await self._reader.read(65536))
            else:
                break
        self.writer.write(outgoing.read())
        cipher = client.cipher()
        assert cipher is not None
        self.records = RecordWriter(self._folder, cipher[0])

    async def received(self, data: bytes) -> None:
        """Return once the receiver has got all of this, and no more."""
        receiver = await self._accepted.opened
        while receiver.data != data:
            assert data.startswith(receiver.data)
            receiver.received.clear()
            await receiver.received.wait()

    async def lost(self) -> None:
        """Return once the server has ended the connection."""
        await (await self._accepted.opened).lost


@pytest.fixture
def open_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Reactor, str], Session]:
    """Give ``open_session(reactor, kind)``."""
    upgrades.install(tmp_path, monkeypatch)
    pem = tmp_path / "both.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(pem)
    return lambda reactor, kind: Session(reactor, kind, str(pem), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_data_arrives_in_any_pieces_beside_key_updates(
    run_on_reactor: Run, open_session: Any, kind: str
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with open_session(reactor, kind) as session:
            data = session.records.data
            pieces = [data(b"one"), data(b"two") + data(b"three")]
            pieces.append(session.records.key_updates(3) + data(b"four"))
            pieces += [bytes([byte]) for byte in data(b"five")]
            pieces.append(b"".join(data(b"x" * 16384) for _ in range(8)))
            for piece in pieces:
                session.writer.write(piece)
                await session.writer.drain()
                await asyncio.sleep(0)
            await session.received(b"onetwothreefourfive" + b"x" * 8 * 16384)

    run_on_reactor(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_flood_of_key_updates_ends_the_connection(
    run_on_reactor: Run, open_session: Any, kind: str
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with open_session(reactor, kind) as session:
            session.writer.write(session.records.data(b"begun"))
            await session.received(b"begun")
            session.writer.write(session.records.key_updates(10 * EMPTY_LIMIT))
            await session.lost()

    run_on_reactor(scenario)
