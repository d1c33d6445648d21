"""What has begun when a worker starts to drain: it is served to its end, never reset.

Each client here sends the first half of something before the drain, and the rest once
the worker has ended its idle connections.
"""

from __future__ import annotations

import select
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

pytestmark = pytest.mark.e2e

APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DEADLINE = 120.0
GOAWAY = 7


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Client:
    """A client that says what it has to say in two halves."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE)

    def begin(self) -> None:
        self.sock.sendall(GET[:10])

    def finish(self) -> bytes:
        self.sock.sendall(GET[10:])
        return self.read_to_end()

    def read_to_end(self) -> bytes:
        """Return all that comes, up to a regular end: a reset raises."""
        return b"".join(iter(lambda: self.sock.recv(65536), b""))


class PrefaceClient(Client):
    """One of HTTP/2 with prior knowledge, in the midst of its preface."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.h2, self.data = ask_by_http2("http")

    def begin(self) -> None:
        self.sock.sendall(self.data[:10])

    def finish(self) -> bytes:
        self.sock.sendall(self.data[10:])
        return answer_of(self.h2, self.read_to_end())


class TLSClient(Client):
    """One whose TLS is under way: it has sent some bytes of its first flight."""

    protocol = "http/1.1"

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        context.set_alpn_protocols([self.protocol])
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname="127.0.0.1"
        )

    def begin(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.hello = self._outgoing.read()
        self.sock.sendall(self.hello[:20])

    def finish(self) -> bytes:
        self.sock.sendall(self.hello[20:])
        self.shake_hands()
        return self.ask(GET)

    def shake_hands(self) -> None:
        """Go on up to the last flight, which is still to be sent."""
        while True:
            try:
                return self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(65536))

    def ask(self, data: bytes) -> bytes:
        """Send in one flight with what waits; return all up to close_notify."""
        self.tls.write(data)
        self.sock.sendall(self._outgoing.read())
        answer = b""
        while True:
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                received = self.sock.recv(65536)
                assert received, f"no close_notify after {answer!r}"
                self._incoming.write(received)
                continue
            if not piece:
                return answer
            answer += piece


class TLSHeadClient(TLSClient):
    """One in the midst of a request's head."""

    def begin(self) -> None:
        self.shake_hands()
        self.tls.write(GET[:10])
        self.sock.sendall(self._outgoing.read())

    def finish(self) -> bytes:
        return self.ask(GET[10:])


class TLSHTTP2Client(TLSClient):
    """One that will speak HTTP/2."""

    protocol = "h2"

    def finish(self) -> bytes:
        connection, data = ask_by_http2("https")
        self.sock.sendall(self.hello[20:])
        self.shake_hands()
        return answer_of(connection, self.ask(data))


def ask_by_http2(scheme: str) -> tuple[h2.connection.H2Connection, bytes]:
    """Return a connection with one request, and what it wants to send."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    connection.initiate_connection()
    fields = [(":method", "GET"), (":scheme", scheme), (":authority", "a")]
    connection.send_headers(1, [*fields, (":path", "/")], end_stream=True)
    return connection, connection.data_to_send()


def answer_of(connection: h2.connection.H2Connection, data: bytes) -> bytes:
    """Return a response as HTTP/1.1 would have it, where it is complete.

    h2 takes no frame after a GOAWAY; it is therefore kept from it.
    """
    answer = b""
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        frame, data = data[:size], data[size:]
        if frame[3] == GOAWAY:
            assert int.from_bytes(frame[9:13], "big") >= 1, "it was not processed"
            continue
        for event in connection.receive_data(frame):
            if isinstance(event, h2.events.ResponseReceived):
                answer += b"HTTP/1.1 " + dict(event.headers)[b":status"] + b" "
            elif isinstance(event, h2.events.DataReceived):
                answer += event.data
    return answer


class Site:
    """A worker under a supervisor, and clients that have begun something."""

    def __init__(self, server: Any, context: ssl.SSLContext | None) -> None:
        self.server = server
        self._context = context
        self.clients = [self._connect(kind) for kind in self._kinds()]
        for client in self.clients:
            client.begin()
        # Accepted after the others: once it has its answer, they are there too.
        kind = Client if context is None else TLSClient
        self.witness = self._connect(kind)

    def _kinds(self) -> list[type[Any]]:
        if self._context is None:
            return [Client, PrefaceClient]
        return [TLSClient, TLSHeadClient, TLSHTTP2Client]

    def _connect(self, kind: type[Any]) -> Any:
        port = self.server.port
        return kind(port) if self._context is None else kind(port, self._context)

    def send_signal(self, number: signal.Signals) -> None:
        self.server.process.send_signal(number)

    def have_witness_answered(self) -> None:
        sock = self.witness.sock
        if self._context is None:
            sock.sendall(GET)
        else:
            sock = self._context.wrap_socket(
                sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            )
            self.witness.sock = sock
            sock.sendall(GET)
        data = b""
        while not data.endswith(b"served"):
            received = sock.recv(65536)
            assert received, f"the witness was closed after {data!r}"
            data += received

    def wait_until_idle_ones_are_ended(self) -> None:
        assert self.witness.sock.recv(65536) == b""
        self.witness.sock.close()


def hang_up(site: Site) -> None:
    site.send_signal(signal.SIGHUP)


def terminate(site: Site) -> None:
    site.send_signal(signal.SIGTERM)


def scale_down(site: Site) -> None:
    site.send_signal(signal.SIGTTIN)
    wait_for(lambda: site.server.output.count("is ready") == 2)
    site.send_signal(signal.SIGTTOU)


def recycle(site: Site) -> None:
    """The witness's request was the worker's last one."""
    wait_for(lambda: "it has answered" in site.server.output)


@pytest.fixture
def open_site(
    start_server: Callable[..., Any],
    free_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Site]]:
    """Give ``open_site(tls, *options)``."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    (tmp_path / "app.py").write_text(APPLICATION)
    with ExitStack() as stack:

        def open_site(tls: bool, *options: str) -> Site:
            context = None
            words = ["-m", "djserve", "app:application", "--supervisor", "on"]
            words += ["--bind", f"127.0.0.1:{free_port}"]
            words += ["--drain-idle-timeout", "0", "--header-timeout", "600"]
            if tls:
                authority = trustme.CA()
                leaf = authority.issue_cert("127.0.0.1")
                leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "a.pem")
                words += ["--certfile", "a.pem"]
                context = ssl.create_default_context()
                authority.configure_trust(context)
            server = start_server(*words, *options, port=free_port, cwd=tmp_path)
            wait_for(lambda: "Supervisor" in server.output)
            site = Site(server, context)
            for client in [*site.clients, site.witness]:
                stack.callback(client.sock.close)
            return site

        yield open_site


@pytest.mark.parametrize("tls", [False, True], ids=["cleartext", "TLS"])
@pytest.mark.parametrize("drain", [hang_up, terminate, scale_down, recycle])
def test_what_has_begun_is_served(
    open_site: Callable[..., Site], drain: Callable[[Site], None], tls: bool
) -> None:
    options = ["--shutdown-timeout", "600"]
    if drain is recycle:
        options += ["--worker-max-requests", "1", "--worker-jitter", "0"]
    site = open_site(tls, *options)
    site.have_witness_answered()
    drain(site)
    site.wait_until_idle_ones_are_ended()

    for client in site.clients:
        assert not select.select([client.sock], [], [], 0)[0] or tls
        answer = client.finish()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"served" in answer
        client.sock.close()
    if drain is terminate:
        assert site.server.process.wait(DEADLINE) == 0
