"""HTTP/2 over real sockets: independent clients, TLS, WebSocket, large bodies."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.conftest import find_free_port, server_starter
from tests.e2e.applications import HELPERS

pytestmark = pytest.mark.e2e

MIB = 1 << 20
UPLOAD_SIZE = 128 * MIB
MEMORY_LIMIT = 16 * MIB
WAIT_LIMIT = 4 * MIB

APPLICATION = (
    """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        return await echo(receive, send)
    path = scope["path"]
    if path == "/count":
        await respond(send, b"%d" % await count(receive))
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for _ in range(int(scope["query_string"])):
            await send_part(send, b"x" * 65536, True)
        await send_part(send, b"", False)
    elif path == "/scope":
        tls = scope["extensions"].get("tls", {})
        await respond(send, repr((scope["http_version"], scope["scheme"],
            tls.get("client_cert_name"), tls.get("tls_version"))).encode())
    elif path == "/fail":
        await send({"type": "http.response.start", "status": 200})
        await send_part(send, b"begun", True)
        raise RuntimeError("as planned")
    elif path == "/page":
        if "http.response.push" in scope["extensions"]:
            await send({"type": "http.response.push", "path": "/style", "headers": []})
        await respond(send, b"page")
    elif path == "/hints":
        await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        await respond(send, b"hinted")
    else:
        await respond(send, path.encode())
"""
    + HELPERS
)


class Server:
    """A server in a process of its own, with TLS, and what a client needs for it."""

    def __init__(self, process: Any, port: int, ca: Path) -> None:
        self.process = process
        self.port = port
        self.ca = ca

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def connect(
        self, name: str = "localhost", *, alpn: Sequence[str] = ("h2",), **tls: Any
    ) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.set_alpn_protocols(list(alpn))
        if "cert" in tls:
            context.load_cert_chain(tls["cert"])
        sock = socket.create_connection(("127.0.0.1", self.port), 120)
        return context.wrap_socket(sock, server_hostname=name)

    def memory(self) -> int:
        """The resident bytes of the server."""
        status = Path(f"/proc/{self.process.process.pid}/statm").read_text()
        return int(status.split()[1]) * 4096


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def fill(folder: Path, authority: trustme.CA) -> Path:
    """Put the application and its certificate into a folder."""
    (folder / "application.py").write_text(APPLICATION)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    return folder


def serve_folder(
    start_server: Callable[..., Any],
    folder: Path,
    port: int,
    *flags: str,
    tls: bool = True,
) -> Server:
    certificate = ["--certfile", str(folder / "cert.pem")] if tls else []
    process = start_server(
        *("-m", "djserve", "application:app", "--bind", f"127.0.0.1:{port}"),
        *certificate,
        *flags,
        port=port,
        env={"PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": ""},
    )
    return Server(process, port, folder / "ca.pem")


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    return fill(tmp_path, authority)


@pytest.fixture
def serve(
    folder: Path, start_server: Callable[..., Any], free_port: int
) -> Callable[..., Server]:
    """Give ``serve(*flags)``: the application over TLS."""
    return partial(serve_folder, start_server, folder, free_port)


class Client:
    """An HTTP/2 client on h2, over a socket that may block."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(16 * MIB)
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def request(self, path: str, *, end: bool = True, **pseudo: str) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        fields = {
            ":method": "GET",
            ":scheme": "https",
            ":authority": "localhost",
            ":path": path,
            **{f":{name}": value for name, value in pseudo.items()},
        }
        self.h2.send_headers(stream_id, list(fields.items()), end_stream=end)
        self.flush()
        return stream_id

    def wait_for(self, kind: type[Any], stream_id: int | None = None) -> Any:
        """Return the next event of a kind, keeping the others."""
        looked_at = 0
        while True:
            for index in range(looked_at, len(self.events)):
                event: Any = self.events[index]
                if isinstance(event, kind) and (
                    stream_id is None or event.stream_id == stream_id
                ):
                    return self.events.pop(index)
            looked_at = len(self.events)
            data = self.sock.recv(65536)
            assert data, f"closed before {kind.__name__}: {self.events}"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                self.events.append(event)
            self.flush()

    def fetch(self, path: str) -> bytes:
        stream_id = self.request(path)
        self.wait_for(h2.events.StreamEnded, stream_id)
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, h2.events.DataReceived)
            and event.stream_id == stream_id
        )


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[Server]:
    """A server for the tests that leave it as it was."""
    folder = fill(tmp_path_factory.mktemp("http2"), authority)
    with server_starter(folder) as start:
        yield serve_folder(start, folder, find_free_port())


@pytest.fixture
def own_server(serve: Callable[..., Server]) -> Server:
    return serve()


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    with server.connect() as sock:
        assert sock.selected_alpn_protocol() == "h2"
        yield Client(sock)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connected(server) as client:
        yield client


@pytest.fixture
def own_client(own_server: Server) -> Iterator[Client]:
    with connected(own_server) as client:
        yield client


def run(*command: str) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# Independent clients.


def test_curl(server: Server, require_program: Callable[..., str]) -> None:
    curl = require_program("curl")
    out = run(
        curl,
        "-s",
        "--http2",
        "--cacert",
        str(server.ca),
        "-w",
        " %{http_version}",
        f"{server.url}/scope",
    )

    assert out == "('2', 'https', None, 772) 2"


def test_curl_uploads(
    server: Server, require_program: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * (3 * MIB))
    out = run(
        require_program("curl"),
        "-s",
        "--http2",
        "--cacert",
        str(server.ca),
        "-T",
        str(tmp_path / "file"),
        f"{server.url}/count",
    )

    assert out == str(3 * MIB)


def test_curl_gets_early_hints(
    server: Server, require_program: Callable[..., str]
) -> None:
    out = run(
        require_program("curl"),
        "-si",
        "--http2",
        "--cacert",
        str(server.ca),
        f"{server.url}/hints",
    )

    assert re.match(r"HTTP/2 103 \nlink: </a>\n\nHTTP/2 200 \n", out)


def test_curl_without_tls(
    serve: Callable[..., Server], require_program: Callable[..., str]
) -> None:
    server = serve(tls=False)
    url = f"http://127.0.0.1:{server.port}/scope"
    curl = require_program("curl")

    prior = run(curl, "-s", "--http2-prior-knowledge", url)
    plain = run(curl, "-s", "--http1.1", url)
    upgrade = run(curl, "-s", "--http2", "-w", " %{http_version}", url)
    assert prior == "('2', 'http', None, None)"
    assert plain == "('1.1', 'http', None, None)"
    assert upgrade == "('1.1', 'http', None, None) 1.1"


def test_prior_knowledge_may_be_turned_off(
    serve: Callable[..., Server], require_program: Callable[..., str]
) -> None:
    server = serve("--http2-cleartext", "off", tls=False)
    command = [
        require_program("curl"),
        "-s",
        "--http2-prior-knowledge",
        f"http://127.0.0.1:{server.port}/",
    ]

    assert subprocess.run(command, timeout=300, check=False).returncode != 0


def test_http2_may_be_turned_off(serve: Callable[..., Server]) -> None:
    server = serve("--no-http2")
    with server.connect(alpn=["h2", "http/1.1"]) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
    # No protocol in common: the handshake fails (RFC 7301 3.2).
    with pytest.raises(ssl.SSLError):
        server.connect(alpn=["h2"])


def test_nghttp_with_push(server: Server, require_program: Callable[..., str]) -> None:
    out = run(require_program("nghttp"), "-nv", f"{server.url}/page")

    assert "recv PUSH_PROMISE frame" in out
    assert out.count(":status: 200") == 2


def test_h2load(server: Server, require_program: Callable[..., str]) -> None:
    out = run(
        require_program("h2load"),
        "-n",
        "2000",
        "-c",
        "4",
        "-m",
        "16",
        f"https://127.0.0.1:{server.port}/",
    )

    assert "2000 succeeded, 0 failed, 0 errored" in out


def test_httpx(server: Server) -> None:
    async def fetch_many() -> list[httpx.Response]:
        verify = ssl.create_default_context(cafile=str(server.ca))
        async with httpx.AsyncClient(http2=True, verify=verify, timeout=120) as client:
            return await asyncio.gather(
                *[client.get(f"{server.url}/{number}") for number in range(50)]
            )

    responses = asyncio.run(fetch_many(), debug=False)
    assert {response.http_version for response in responses} == {"HTTP/2"}
    assert [r.text for r in responses] == [f"/{number}" for number in range(50)]


# Faults, drain, WebSocket.


def test_fault_of_one_application_call_leaves_the_connection_serving(
    client: Client,
) -> None:
    stream_id = client.request("/fail")
    reset = client.wait_for(h2.events.StreamReset, stream_id)

    assert reset.error_code == 2
    assert client.fetch("/next") == b"/next"


def test_stop_sends_goaway_and_finishes_what_runs(
    own_server: Server, own_client: Client
) -> None:
    server, client = own_server, own_client
    stream_id = client.request("/count", end=False)
    client.fetch("/first")
    server.process.process.send_signal(signal.SIGTERM)
    sent = client.sock.recv(65536)
    # h2's client would take nothing more after GOAWAY, so that PING comes first.
    goaway = sent[17:]
    assert (sent[3], goaway[3]) == (6, 7)
    assert int.from_bytes(goaway[9:13], "big") == 2**31 - 1
    client.h2.send_data(stream_id, b"abc", end_stream=True)
    client.flush()
    rest = b""
    while data := client.sock.recv(65536):
        rest += data

    assert b"\0\0\x01\0\x01" + stream_id.to_bytes(4, "big") + b"3" in rest
    assert server.process.stop() == 0


def open_websocket(client: Client) -> int:
    stream_id = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        stream_id,
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/chat"),
            (":authority", "localhost"),
            ("sec-websocket-version", "13"),
            ("origin", "https://localhost"),
        ],
    )
    client.flush()
    response = client.wait_for(h2.events.ResponseReceived, stream_id)
    assert dict(response.headers)[b":status"] == b"200"
    return stream_id


def test_websockets_and_requests_share_a_connection(client: Client) -> None:
    client.fetch("/")
    assert client.h2.remote_settings.enable_connect_protocol == 1
    sockets = [open_websocket(client) for _ in range(5)]
    for stream_id in sockets:
        # A masked text frame; a mask of zeros leaves the text as it is.
        client.h2.send_data(stream_id, b"\x81\x82\0\0\0\0%02d" % stream_id)
    client.flush()
    assert client.fetch("/beside") == b"/beside"
    for stream_id in sockets:
        event = client.wait_for(h2.events.DataReceived, stream_id)
        assert event.data == b"\x81\x02%02d" % stream_id


def test_websocket_is_closed_in_order(client: Client) -> None:
    stream_id = open_websocket(client)
    client.h2.send_data(stream_id, b"\x88\x82\0\0\0\0" + (1000).to_bytes(2, "big"))
    client.flush()

    assert (
        client.wait_for(h2.events.DataReceived, stream_id).data == b"\x88\x02\x03\xe8"
    )
    client.wait_for(h2.events.StreamEnded, stream_id)
    client.h2.end_stream(stream_id)
    client.flush()
    assert client.fetch("/next") == b"/next"


# Large bodies.


def test_large_download_beside_small_requests(
    own_server: Server, own_client: Client
) -> None:
    server, client = own_server, own_client
    client.fetch("/")
    server.process.finish_imports(tls=True)
    before = server.memory()
    stream_id = client.request(f"/stream?{UPLOAD_SIZE // 65536}")
    size, waits = 0, []
    for number in range(50):
        assert client.fetch(f"/{number}") == b"/%d" % number
        # What came of the download before the answer.
        waits.append(sum(len(e.data) for e in client.events if hasattr(e, "data")))
        client.events.clear()
    size += sum(waits)
    while True:
        try:
            client.wait_for(h2.events.StreamEnded, stream_id)
            break
        finally:
            size += sum(
                len(e.data)
                for e in client.events
                if isinstance(e, h2.events.DataReceived) and e.stream_id == stream_id
            )

    assert size >= UPLOAD_SIZE
    assert server.memory() - before < MEMORY_LIMIT
    assert sorted(waits)[-2] < WAIT_LIMIT


def test_large_upload_stays_out_of_memory(
    own_server: Server, require_program: Callable[..., str], tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(UPLOAD_SIZE)
    server = own_server
    curl = [require_program("curl"), "-s", "--http2", "--cacert", str(server.ca)]
    run(*curl, f"{server.url}/")
    server.process.finish_imports(tls=True)
    before = server.memory()
    out = run(*curl, "-T", str(tmp_path / "file"), f"{server.url}/count")

    assert out == str(UPLOAD_SIZE)
    assert server.memory() - before < MEMORY_LIMIT


def test_refused_upload_shows_its_status(
    serve: Callable[..., Server], require_program: Callable[..., str], tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(8 * MIB)
    server = serve("--body-size-limit", str(MIB))
    curl = [require_program("curl"), "-s", "--http2", "--cacert", str(server.ca)]
    out = run(*curl, "-w", " %{http_code}", "-T", str(tmp_path / "file"), server.url)

    assert out == "Request content is too large\n 413"


# Certificates.


def names(sock: ssl.SSLSocket) -> set[str]:
    certificate = sock.getpeercert()
    assert certificate
    return {str(pair[1]) for pair in certificate["subjectAltName"]}


def test_name_chooses_the_certificate(
    serve: Callable[..., Server], folder: Path, authority: trustme.CA
) -> None:
    other = authority.issue_cert("other.example", "*.wild.example")
    other.private_key_and_cert_chain_pem.write_to_path(folder / "other.pem")
    server = serve("--sni-certfiles", str(folder / "other.pem"))

    with server.connect("other.example") as first, server.connect() as second:
        assert "other.example" in names(first)
        assert "localhost" in names(second)
    with server.connect("a.wild.example") as third:
        assert third.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("how", ["signal", "files"])
def test_new_certificate_is_used_without_dropping_connections(
    serve: Callable[..., Server], folder: Path, authority: trustme.CA, how: str
) -> None:
    server = serve("--certificate-check-interval", "0.1" if how == "files" else "0")
    with server.connect() as old:
        client = Client(old)
        client.fetch("/before")
        leaf = authority.issue_cert("localhost", "renewed.example")
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "new.pem")
        (folder / "new.pem").replace(folder / "cert.pem")
        if how == "signal":
            server.process.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while True:
            with server.connect() as new:
                if "renewed.example" in names(new):
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert client.fetch("/after") == b"/after"


def test_broken_certificate_is_not_loaded(
    serve: Callable[..., Server], folder: Path
) -> None:
    server = serve()
    (folder / "cert.pem").write_text("nonsense")
    server.process.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 120
    while "Kept the certificates in use" not in server.process.output:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    with server.connect() as sock:
        assert Client(sock).fetch("/still") == b"/still"


def test_client_certificate_reaches_the_application(
    serve: Callable[..., Server], folder: Path, authority: trustme.CA
) -> None:
    leaf = authority.issue_cert("client@example.org", common_name="client")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    server = serve(
        "--client-certificates", "required", "--client-ca-file", str(folder / "ca.pem")
    )

    with server.connect(cert=str(folder / "client.pem")) as sock:
        assert b"CN=client" in Client(sock).fetch("/scope")
    with (
        pytest.raises((ssl.SSLError, ConnectionError, AssertionError)),
        server.connect() as sock,
    ):
        Client(sock).fetch("/scope")


def test_key_may_have_a_password(serve: Callable[..., Server], folder: Path) -> None:
    pem = (folder / "cert.pem").read_bytes()
    key = load_pem_private_key(pem, None)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")
        )
    )
    server = serve("--keyfile", str(folder / "key.pem"), "--keyfile-password", "sesame")

    with server.connect() as sock:
        assert Client(sock).fetch("/") == b"/"


def test_old_tls_is_refused(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", server.port), 120) as sock,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(sock, server_hostname="localhost")


# Twisted's endpoint strings.


@pytest.fixture
def endpoint_server(
    folder: Path, start_server: Callable[..., Any], free_port: int
) -> Server:
    """The application behind an endpoint that brings its own TLS."""
    pem = folder / "cert.pem"
    endpoint = f"ssl:{free_port}:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    process = start_server(
        *("-m", "djserve", "application:app", "--bind", endpoint),
        port=free_port,
        env={"PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": ""},
    )
    return Server(process, free_port, folder / "ca.pem")


def test_endpoint_with_tls_of_its_own_offers_http2(endpoint_server: Server) -> None:
    with endpoint_server.connect() as sock:
        assert sock.selected_alpn_protocol() == "h2"
        scope = Client(sock).fetch("/scope").decode()

    assert scope.startswith("('2', 'https', None,")


def test_large_bodies_go_both_ways_through_an_endpoint(
    endpoint_server: Server, require_program: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * (8 * MIB))
    command = [require_program("curl"), "-s", "--http2", "--cacert"]
    command.append(str(endpoint_server.ca))
    url = endpoint_server.url
    upload = run(*command, "--data-binary", f"@{tmp_path}/file", f"{url}/count")
    download = run(*command, f"{url}/stream?{8 * MIB // 65536}")

    assert upload == str(8 * MIB)
    assert len(download) == 8 * MIB


def test_stop_finishes_what_runs_behind_an_endpoint(endpoint_server: Server) -> None:
    with endpoint_server.connect() as sock:
        client = Client(sock)
        client.fetch("/first")
        stream_id = client.request("/count", end=False)
        client.fetch("/second")
        endpoint_server.process.process.send_signal(signal.SIGTERM)
        sent = sock.recv(65536)
        assert sent[3] == 6
        client.h2.send_data(stream_id, b"abc", end_stream=True)
        client.flush()
        rest = sent
        while data := sock.recv(65536):
            rest += data

    assert b"\0\0\x01\0\x01" + stream_id.to_bytes(4, "big") + b"3" in rest


def test_records_that_come_in_one_piece_are_all_read(server: Server) -> None:
    """uvloop looks into its own buffer for whether there is more to read."""
    context = ssl.create_default_context(cafile=str(server.ca))
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(arriving, leaving, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.port), 120) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(leaving.read())
                arriving.write(sock.recv(65536))
        # With the handshake's last message, and then by themselves.
        for number in range(3):
            for piece in (b"GET / HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"):
                tls.write(piece)
            sock.sendall(leaving.read())
            answer = b""
            while b" 200 " not in answer:
                try:
                    answer += tls.read()
                except ssl.SSLWantReadError:
                    data = sock.recv(65536)
                    assert data, f"The server has left at request {number}"
                    arriving.write(data)
