"""A pair of QUIC connections in memory: aioquic's client, and the server's engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from djserve.conf.schema import HTTP2Config, TLSConfig
from djserve.net.certificates import Certificates
from djserve.net.quic.certificate import QUICCertificates
from djserve.net.quic.engine import Engine
from djserve.net.quic.ids import ConnectionIds

CLIENT = ("1.2.3.4", 5)
SERVER = ("5.6.7.8", 443)


class Pair:
    """Carry datagrams between both ends until neither has more to say."""

    def __init__(
        self,
        certfile: Path,
        ca: Path,
        datagrams: bool = False,
        is_connected: bool = True,
        **limits: Any,
    ) -> None:
        settings = HTTP2Config(**limits)
        tls = TLSConfig(certfile=str(certfile))
        client = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
        client.max_datagram_frame_size = 65535 if datagrams else None
        client.load_verify_locations(str(ca))
        self.now = 0.0
        self.tickets: list[Any] = []
        self.client = QuicConnection(
            configuration=client, session_ticket_handler=self.tickets.append
        )
        self.server = Engine(
            QUICCertificates(
                tls, settings, Certificates(tls, ("http/1.1",)), datagrams=datagrams
            ).choose(),
            settings.http2_stream_limit,
            ConnectionIds(b"secret"),
            original_id=self.client.original_destination_connection_id,
            retry_id=None,
        )
        self._is_lost: Callable[[], bool] = lambda: False
        self.client.connect(SERVER, now=self.now)
        if is_connected:
            self.run()

    def run(self) -> None:
        while self.step():
            pass

    def lose(self, random: Random, part: float) -> None:
        """Lose datagrams from now on, both ways."""
        self._is_lost = lambda: random.random() < part

    def run_until(self, condition: Callable[[], object]) -> None:
        """Carry datagrams, and let timers fire in between."""
        for _ in range(100_000):
            if condition():
                return
            self.step()
            for end in (self.client, self.server):
                timer = end.get_timer()
                if timer is not None and timer <= self.now:
                    end.handle_timer(now=self.now)
        raise AssertionError("It never comes")

    def step(self) -> bool:
        """Carry what each end has to say at one time; return whether any had."""
        self.now += 0.05
        ends = [
            (self.client, self.server, CLIENT),
            (self.server, self.client, SERVER),
        ]
        is_busy = False
        for sender, receiver, address in ends:
            for data, _ in sender.datagrams_to_send(now=self.now):
                is_busy = True
                if not self._is_lost():
                    receiver.receive_datagram(data, address, now=self.now)
        return is_busy


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a certificate with its key, and of its authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    return tmp_path / "cert.pem", tmp_path / "ca.pem"


@pytest.fixture
def open_pair(certificate: tuple[Path, Path]) -> Callable[..., Pair]:
    """Give ``open_pair(**limits)``."""
    return lambda **limits: Pair(*certificate, **limits)
