"""Long WebSocket messages of several clients at once, which share one read buffer."""

from __future__ import annotations

import os
import random
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from websockets.sync.client import ClientConnection, connect

from tests.e2e.test_crossing import ROOT, START

pytestmark = pytest.mark.e2e

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
"""

SIZES = (10, 4095, 4096, 10, 16_384, 65_535, 65_536, 300_000, 600_000, 0, 5000)
CLIENTS = 4


def converse(client: ClientConnection, seed: int, faults: list[str]) -> None:
    """Send messages that no other client sends, some of them ahead; compare echoes."""
    source = random.Random(seed)
    sizes = list(SIZES) * 3
    source.shuffle(sizes)
    sent: list[str | bytes] = []
    for size in sizes:
        data = source.randbytes(size)
        sent.append(data if source.random() < 0.5 else data.decode("latin-1"))
    with client:
        for i in range(0, len(sent), 3):
            for message in sent[i : i + 3]:
                client.send(message)
            for message in sent[i : i + 3]:
                echo = client.recv(timeout=120)
                if echo != message:
                    faults.append(f"client {seed}: {len(message)} came back wrong")


@pytest.mark.parametrize("is_secure", [False, True], ids=["cleartext", "TLS"])
@pytest.mark.parametrize("loop", START)
def test_echoes_of_several_clients_are_their_own(
    loop: str,
    is_secure: bool,
    start_server: Callable[..., object],
    free_port: int,
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    (tmp_path / "echo_app.py").write_text(APPLICATION)
    command = [*START[loop], "echo_app:app", "-b", f"127.0.0.1:{free_port}"]
    for limit in ("message", "frame"):
        command += [f"--websocket-max-{limit}-size", "4000000"]
    if is_secure:
        command += ["--certfile", "cert.pem"]
    path = os.pathsep.join([str(ROOT), "."])
    start_server(*command, port=free_port, cwd=tmp_path, env={"PYTHONPATH": path})
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url = f"{'wss' if is_secure else 'ws'}://127.0.0.1:{free_port}/"

    faults: list[str] = []
    threads = []
    for seed in range(CLIENTS):
        client = connect(
            url,
            ssl=context if is_secure else None,
            compression=None,
            open_timeout=120,
            max_size=None,
        )
        thread = threading.Thread(target=converse, args=(client, seed, faults))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(300)

    assert not any(thread.is_alive() for thread in threads)
    assert faults == []
