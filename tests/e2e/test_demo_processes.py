"""The demo over several processes: two servers, a worker and a command share Redis."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from PIL import Image
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.conftest import find_free_port
from tests.e2e.demo_site import PATIENT_SERVER, Prepared, manage

pytestmark = pytest.mark.e2e

# Below the rate limit of a person, however fast they are.
EACH = 6
ROOT = Path(__file__).resolve().parents[2]


class Site:
    """Two servers on one database and one Redis."""

    def __init__(
        self, prepared: Prepared, data: Path, env: dict[str, str], ports: list[int]
    ) -> None:
        self._sessions = prepared.sessions
        self._data = data
        self.env = env
        self.ports = ports

    def manage(self, *args: str) -> None:
        manage(self._data, *args, env=self.env)

    def sign_in(self, name: str, server: int) -> httpx.Client:
        """Return a client of one of the servers, with the session of somebody."""
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports[server]}", timeout=60
        )
        client.cookies.set("sessionid", self._sessions[name], "127.0.0.1")
        assert f"Signed in as <strong>{name}" in client.get("/rooms/lobby/").text
        return client


def websocket(client: httpx.Client, path: str) -> ClientConnection:
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    address = f"{client.base_url.host}:{client.base_url.port}"
    return connect(
        f"ws://{address}{path}",
        origin=Origin(f"http://{address}"),
        additional_headers={"Cookie": cookies},
        open_timeout=60,
        ping_interval=None,
    )


def frame(connection: ClientConnection, type: str) -> dict[str, Any]:
    """Return the next frame of a type."""
    while True:
        found: dict[str, Any] = json.loads(connection.recv(timeout=60))
        if found["type"] == type:
            return found


def send(connection: ClientConnection, text: str, *attachments: str) -> None:
    command = {
        "type": "send",
        "nonce": str(uuid.uuid4()),
        "text": text,
        "attachments": attachments,
    }
    connection.send(json.dumps(command))


@pytest.fixture(params=["channels", "tasks"])
def worker(request: pytest.FixtureRequest) -> str:
    """Who makes thumbnails."""
    if request.param == "tasks" and not settings.HAS_TASKS:
        pytest.skip("django-tasks-db is not installed")
    return str(request.param)


@pytest.fixture
def site(
    prepared: Prepared,
    worker: str,
    redis_url: str,
    start_server: Callable[..., Any],
    tmp_path: Path,
) -> Iterator[Site]:
    ports = [find_free_port() for _ in range(2)]
    data = prepared.copy(tmp_path / "data")
    env = {
        "DEMO_DATA_DIR": str(data),
        "REDIS_URL": redis_url,
        "DEMO_INPROCESS_WORKER": "0",
        "DEMO_TASKS": "1" if worker == "tasks" else "0",
    }
    site = Site(prepared, data, env, ports)
    for port in ports:
        words = ["manage.py", "runasgi", f"127.0.0.1:{port}", *PATIENT_SERVER]
        start_server(*words, port=port, env=env)
    channels_worker = subprocess.Popen(
        [sys.executable, "manage.py", "runworker", "media", "digest"],
        cwd=ROOT,
        env={**os.environ, **env},
        stderr=subprocess.DEVNULL,
    )
    yield site
    channels_worker.terminate()
    channels_worker.wait(120)


def test_processes_work_as_one_site(site: Site) -> None:
    with ExitStack() as stack:
        ana = stack.enter_context(closing(site.sign_in("ana", server=0)))
        ben = stack.enter_context(closing(site.sign_in("ben", server=1)))
        here = stack.enter_context(websocket(ana, "/ws/rooms/lobby/"))
        frame(here, "welcome")
        there = stack.enter_context(websocket(ben, "/ws/rooms/lobby/"))
        inbox = stack.enter_context(websocket(ben, "/ws/inbox/"))
        people = frame(there, "welcome")["people"]
        assert [person["name"] for person in people] == ["ana", "ben"]

        send(here, "Over there, @ben")
        assert "Over there" in frame(there, "message")["message"]["html"]
        note = frame(inbox, "notification.new")["note"]
        assert note["text"] == "ana mentioned you in Lobby"

        site.manage("notify", "ben", "From the command line")
        note = frame(inbox, "notification.new")["note"]
        assert note["text"] == "From the command line"

        send(here, "A picture", upload(ana))
        html = ""
        while "/thumbnail/" not in html:
            html = frame(there, "message")["message"]["html"]
        assert "A picture" in html


def test_messages_of_many_senders_reach_every_reader_without_a_gap(site: Site) -> None:
    with ExitStack() as stack:
        sockets = []
        for number, name in enumerate(("ana", "ben", "chen", "dara")):
            client = stack.enter_context(closing(site.sign_in(name, number % 2)))
            sockets.append(stack.enter_context(websocket(client, "/ws/rooms/lobby/")))
        start = frame(sockets[0], "welcome")["version"]
        for number in range(EACH):
            for connection in sockets:
                send(connection, f"Number {number}")

        expected = list(range(start + 1, start + 1 + EACH * len(sockets)))
        for connection in sockets:
            frames = [frame(connection, "message") for _ in expected]
            versions = [found["message"]["version"] for found in frames]
            assert sorted(versions) == expected


def upload(client: httpx.Client) -> str:
    picture = io.BytesIO()
    Image.new("RGB", (1200, 900), "teal").save(picture, "JPEG")
    answer = client.post(
        "/rooms/lobby/attachments/",
        files={"file": ("bay.jpg", picture.getvalue())},
        headers={"X-CSRFToken": client.cookies["csrftoken"]},
    )
    assert answer.status_code == 201, answer.text
    attachment_id: str = answer.json()["id"]
    return attachment_id
