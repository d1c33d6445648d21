"""deploy/docker/compose.yaml in two replicas, its services as processes here.

The commands, the variables and the secrets are those of the file, PostgreSQL, Redis and
Caddy real ones. Put on: addresses of this machine for the services' names, a folder for
the volume, and for Caddy both replicas by their addresses, where Docker's name service
would give it both for one name.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from django.conf import settings
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.conftest import find_free_port, find_package
from tests.e2e.workers import DEADLINE
from tests.support.postgresql import running_postgresql

yaml = find_package("yaml")
find_package("psycopg")
find_package("channels_redis")

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
HOST = "chat.example.com"


class Site:
    """What the file says, adapted to this machine."""

    def __init__(self, services: Any, folder: Path) -> None:
        self.services = services
        self.folder = folder
        self.https = find_free_port()
        self.ports = [find_free_port() for _ in range(2)]
        self.authority = trustme.CA()
        self.context = ssl.create_default_context()
        self.authority.configure_trust(self.context)

    def environment(self, postgresql: dict[str, Any], redis_url: str) -> dict[str, str]:
        """Return a replica's variables."""
        given = dict(self.services["parley"]["environment"])
        assert given["DATABASE_URL"] == "postgres://parley@postgres/parley"
        user, name = postgresql["USER"], postgresql["NAME"]
        url = f"postgres://{user}@/{name}?host={postgresql['HOST']}"
        given.update(DATABASE_URL=url, REDIS_URL=redis_url, ALLOWED_HOSTS=HOST)
        for name in ("SECRET_KEY_FILE", "DATABASE_PASSWORD_FILE"):
            path = self.folder / Path(given[name]).name
            path.write_text(secrets.token_urlsafe(50))
            given[name] = str(path)
        # Those of the image.
        given.update(DEBUG="0", DEMO_DATA_DIR=str(self.folder / "uploads"))
        # The tests' own environment turns them off.
        return {**given, "DEMO_TASKS": "1" if settings.HAS_TASKS else "0"}

    def command(self, replica: int) -> list[str]:
        """Return the words of one replica, after the image's entry point."""
        address = f"127.0.0.1:{self.ports[replica]}"
        metrics = f"127.0.0.1:{find_free_port()}"
        moved = {
            "0.0.0.0:8000": address,
            "--metrics-bind=0.0.0.0:9001": f"--metrics-bind={metrics}",
            "--trusted-proxies=172.30.80.0/24": "--trusted-proxies=127.0.0.1",
        }
        words = list(self.services["parley"]["command"])
        assert moved.keys() <= set(words)
        return [moved.get(word, word) for word in words]

    def caddy(self) -> list[str]:
        """Return Caddy's words; the file is what it makes of the service's options."""
        command = self.services["caddy"]["command"].replace("${ALLOWED_HOSTS}", HOST)
        assert command == f"caddy reverse-proxy --from {HOST} --to parley:8000"
        certificate = self.authority.issue_cert(HOST)
        pem, key = self.folder / "cert.pem", self.folder / "key.pem"
        certificate.cert_chain_pems[0].write_to_path(pem)
        certificate.private_key_pem.write_to_path(key)
        places = " ".join(f"127.0.0.1:{port}" for port in self.ports)
        config = self.folder / "Caddyfile"
        config.write_text(
            "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
            f"https://{HOST}:{self.https} {{\n"
            f"\tbind 127.0.0.1\n\ttls {pem} {key}\n"
            f"\treverse_proxy {places} {{\n\t\tlb_try_duration 60s\n\t}}\n}}\n"
        )
        return ["run", "--adapter", "caddyfile", "--config", str(config)]

    def client(self) -> Person:
        return Person(self, f"https://127.0.0.1:{self.https}", self.context)


class Person(httpx.Client):
    """A browser that goes through Caddy, or past it to one of the replicas."""

    def __init__(self, site: Site, url: str, context: ssl.SSLContext) -> None:
        super().__init__(
            base_url=url,
            verify=context,
            timeout=DEADLINE,
            headers={"Host": HOST, "Referer": f"https://{HOST}/"},
        )
        self._site = site

    def request(self, *args: Any, **options: Any) -> httpx.Response:
        options["extensions"] = {"sni_hostname": HOST}
        return super().request(*args, **options)

    def submit(self, path: str, form: str, **data: Any) -> httpx.Response:
        """Send what a page's form sends."""
        self.get(form)
        files = data.pop("files", None)
        data["csrfmiddlewaretoken"] = self.cookies["csrftoken"]
        return self.post(path, data=data, files=files)

    def sign_up(self, name: str) -> None:
        password = secrets.token_urlsafe(20)
        form = "/accounts/sign-up/"
        passwords = {"password1": password, "password2": password}
        assert self.submit(form, form, username=name, **passwords).status_code == 302

    def join(self, path: str, port: int) -> ClientConnection:
        """Open a WebSocket through the listener of a port."""
        is_proxy = port == self._site.https
        headers = {"Cookie": f"sessionid={self.cookies['sessionid']}"}
        if not is_proxy:
            headers["X-Forwarded-Proto"] = "https"
        return connect(
            f"{'wss' if is_proxy else 'ws'}://{HOST}{path}",
            sock=socket.create_connection(("127.0.0.1", port), DEADLINE),
            ssl=self._site.context if is_proxy else None,
            origin=Origin(f"https://{HOST}"),
            additional_headers=headers,
            open_timeout=DEADLINE,
            ping_interval=None,
        )


def frame(connection: ClientConnection, type: str) -> dict[str, Any]:
    """Return the next frame of a type."""
    while True:
        found: dict[str, Any] = json.loads(connection.recv(timeout=DEADLINE))
        if found["type"] == type:
            return found


def hear(connection: ClientConnection, text: str) -> None:
    """Return once a message with a text comes; one with a file comes again, titled."""
    while text not in frame(connection, "message")["message"]["html"]:
        continue


def say(connection: ClientConnection, text: str, *attachments: str) -> None:
    command = {"type": "send", "nonce": str(uuid.uuid4()), "text": text}
    connection.send(json.dumps({**command, "attachments": attachments}))


@pytest.fixture
def services() -> Any:
    text = (ROOT / "deploy" / "docker" / "compose.yaml").read_text("utf-8")
    return yaml.safe_load(text)["services"]


def test_two_replicas_are_one_site(
    services: Any,
    redis_url: str,
    start_server: Callable[..., Any],
    require_program: Callable[..., str],
    tmp_path: Path,
) -> None:
    program = require_program("caddy")
    site = Site(services, tmp_path)
    with ExitStack() as stack:
        postgresql = stack.enter_context(running_postgresql(max_connections=100))
        env = site.environment(postgresql, redis_url)
        python, *migrate = services["migrate"]["entrypoint"]
        assert python == "python"
        subprocess.run(
            [sys.executable, *migrate],
            cwd=ROOT,
            env={**os.environ, **env},
            check=True,
            timeout=300,
        )
        one, two = (
            start_server("manage.py", "runasgi", *site.command(n), port=port, env=env)
            for n, port in enumerate(site.ports)
        )
        start_server(*site.caddy(), port=site.https, python=program)
        robin, sam = (stack.enter_context(site.client()) for _ in range(2))
        robin.sign_up("robin")
        sam.sign_up("sam")
        room = robin.submit("/rooms/new/", "/rooms/new/", name="Tea")
        path = f"/ws{room.headers['Location']}"

        # Each is with another replica; what one says reaches the other.
        here = stack.enter_context(robin.join(path, site.ports[0]))
        frame(here, "welcome")
        there = stack.enter_context(sam.join(path, site.ports[1]))
        people = [person["name"] for person in frame(there, "welcome")["people"]]
        assert people == ["robin", "sam"]
        files = {"file": ("note.txt", b"kept by both")}
        where = f"{room.headers['Location']}attachments/"
        upload = robin.submit(where, "/rooms/new/", files=files).json()
        say(here, "Tea is ready", upload["id"])
        hear(there, "Tea is ready")

        # One is gone; the other has all that was said and sent.
        one.process.kill()
        one.process.wait(DEADLINE)
        for _ in range(8):
            assert "Tea is ready" in sam.get(room.headers["Location"]).text
        file = sam.get(f"/attachments/{upload['id']}/note.txt")
        assert file.content == b"kept by both"
        again = stack.enter_context(robin.join(path, site.https))
        frame(again, "welcome")
        say(again, "Here I am again")
        hear(there, "Here I am again")
        assert two.stop() == 0
        assert "Traceback" not in two.output
