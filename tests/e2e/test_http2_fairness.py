"""Who waits for whom when a download goes on, counted in bytes over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from tests.conftest import find_free_port, server_starter

pytestmark = pytest.mark.e2e

MIB = 1 << 20
WINDOW = 1 << 30

# What the server may have handed out when the small request comes: some turns of its
# loop, its transport, its socket's unsent bytes and the client's socket. Without limits
# the sockets alone take several times as much.
QUEUE_LIMIT = 2 * MIB

APPLICATION = """
PIECE = bytes(65536)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    if scope["path"] == "/endless":
        while True:
            await send(
                {"type": "http.response.body", "body": PIECE, "more_body": True}
            )
    await send({"type": "http.response.body", "body": b"small"})
"""


class Downloader:
    """A client with windows that hold nothing up, over a socket that holds little."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        self.sock.settimeout(120)
        self.sock.connect(("127.0.0.1", port))
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self.h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW},
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(WINDOW)
        self.received: dict[int, int] = {}
        self.ended: set[int] = set()

    def ask(self, path: str) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
        ]
        self.h2.send_headers(stream_id, fields, end_stream=True)
        self.sock.sendall(self.h2.data_to_send())
        self.received[stream_id] = 0
        return stream_id

    def read(self) -> None:
        data = self.sock.recv(65536)
        assert data
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id] += len(event.data)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
        self.sock.sendall(self.h2.data_to_send())

    def read_mebibytes(self, stream_id: int, count: int) -> None:
        while self.received[stream_id] < count * MIB:
            self.read()

    def wait_beside(self, small: int, large: int) -> int:
        """Wait for a response; return what came of another in the meantime."""
        before = self.received[large]
        while small not in self.ended:
            self.read()
        return self.received[large] - before


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server."""
    folder, port = tmp_path_factory.mktemp("fairness"), find_free_port()
    (folder / "application.py").write_text(APPLICATION)
    with server_starter(folder) as start:
        start(
            *("-m", "djserve", "application:app", "--bind", f"127.0.0.1:{port}"),
            port=port,
            env={"PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": ""},
        )
        yield port


@pytest.fixture
def open_client(port: int) -> Iterator[Callable[[], Downloader]]:
    """Give ``open_client()``: a connection with prior knowledge."""
    clients: list[Downloader] = []

    def open_one() -> Downloader:
        clients.append(Downloader(port))
        return clients[-1]

    yield open_one
    for client in clients:
        client.sock.close()


def test_small_responses_pass_a_download_on_their_connection(
    open_client: Callable[[], Downloader],
) -> None:
    client = open_client()
    large = client.ask("/endless")
    client.read_mebibytes(large, 24)
    waits = [client.wait_beside(client.ask("/"), large) for _ in range(9)]

    assert max(waits) < QUEUE_LIMIT


def test_small_response_passes_many_downloads(
    open_client: Callable[[], Downloader],
) -> None:
    client = open_client()
    larges = [client.ask("/endless") for _ in range(8)]
    for large in larges:
        client.read_mebibytes(large, 1)
    before = sum(client.received.values())
    client.wait_beside(client.ask("/"), larges[0])

    assert sum(client.received.values()) - before < 2 * QUEUE_LIMIT


def test_downloads_share_their_connection(
    open_client: Callable[[], Downloader],
) -> None:
    client = open_client()
    larges = [client.ask("/endless") for _ in range(4)]
    # Far more than the first may get before the last of them begins.
    client.read_mebibytes(larges[0], 40)

    assert min(client.received[large] for large in larges) > 20 * MIB


def test_download_that_is_read_fast_leaves_other_connections_their_turn(
    open_client: Callable[[], Downloader],
) -> None:
    reader, other = open_client(), open_client()
    large = reader.ask("/endless")
    reader.read_mebibytes(large, 8)
    small = other.ask("/")
    other.sock.settimeout(0)
    before = reader.received[large]
    while small not in other.ended:
        reader.read()
        try:
            other.read()
        except BlockingIOError:
            continue

    assert reader.received[large] - before < 64 * MIB
