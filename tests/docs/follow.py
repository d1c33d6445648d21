"""The tutorial, followed to the letter: ``python -m tests.docs.follow``.

Each block with a file's name is written to that file, each command is run, and what the
page promises is looked at with a WebSocket client. By itself it makes a fresh
environment and installs the checkout there; a test runs the pages in its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.conftest import find_free_port
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("first-websocket", "chat", "notifications", "background-work")
BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
AT_THE_END = " (at the end)"


class Reader:
    """Who follows the tutorial: a folder, an interpreter, and a port for the server."""

    def __init__(self, folder: Path, python: str, *, installs: bool) -> None:
        self.folder = folder
        self.python = python
        self.installs = installs
        self.port = find_free_port()

    def follow(self, page: str) -> None:
        """Do what a page says, and look at what it promises."""
        text = (ROOT / "docs" / "tutorial" / f"{page}.md").read_text("utf-8")
        servers = []
        for block in BLOCK.finditer(text):
            if block["title"]:
                self._write(block["title"], block["text"])
            elif block["language"] == "console":
                commands = re.findall(r"^\$ (.+)$", block["text"], re.MULTILINE)
                for command in commands:
                    if "runserver" in command or "runasgi" in command:
                        servers.append(command)
                    elif self.installs or not _installs(command):
                        self._run(command)
        for command in servers:
            with self._serve(command):
                CHECKS[page](self)

    def _write(self, title: str, text: str) -> None:
        path = self.folder / title.removesuffix(AT_THE_END)
        path.parent.mkdir(exist_ok=True)
        old = path.read_text() if title.endswith(AT_THE_END) else ""
        path.write_text(old + text)

    def _run(self, command: str) -> None:
        if "djserve[channels]" in command:
            # Not what a registry has: this checkout.
            command = command.replace("djserve[channels]", f"{ROOT}[channels]")
        subprocess.run(self._line(command), shell=True, cwd=self.folder, check=True)

    def _line(self, command: str) -> str:
        path = str(Path(self.python).parent)
        return f'export PATH="{path}:$PATH"; unset DJANGO_SETTINGS_MODULE; {command}'

    @contextmanager
    def _serve(self, command: str) -> Iterator[None]:
        line = self._line(f"exec {command} {self.port}")
        server = subprocess.Popen(
            line, shell=True, cwd=self.folder, start_new_session=True
        )
        try:
            self._wait(server)
            yield
        finally:
            # The reloader's child ends with the whole session.
            os.killpg(server.pid, 15)
            server.wait(PATIENCE)

    def _wait(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert server.poll() is None, "The server has ended"
            try:
                if httpx.get(self.url("/")).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("The server does not answer")

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def connect(self, path: str, cookie: str = "") -> ClientConnection:
        """Open a WebSocket as a page of the site does."""
        headers = {"Cookie": cookie} if cookie else None
        return connect(
            self.url(path, "ws"),
            origin=Origin(self.url("")),
            additional_headers=headers,
            open_timeout=PATIENCE,
        )


def _installs(command: str) -> bool:
    return any(word in command for word in ("venv", "pip install"))


def check_shout(reader: Reader) -> None:
    with reader.connect("/ws/shout/") as socket:
        socket.send("hello")
        assert socket.recv(timeout=PATIENCE) == "HELLO"


def check_chat(reader: Reader) -> None:
    with reader.connect("/ws/lobby/") as one, reader.connect("/ws/lobby/") as other:
        one.send(json.dumps({"text": "hello"}))
        assert json.loads(other.recv(timeout=PATIENCE)) == {"text": "hello"}
        assert json.loads(one.recv(timeout=PATIENCE)) == {"text": "hello"}


def check_notifications(reader: Reader) -> None:
    cookie = sign_in(reader)
    with reader.connect("/ws/notifications/", cookie) as socket:
        sign_in(reader)
        text = json.loads(socket.recv(timeout=PATIENCE))["text"]
        assert text == "A new sign-in to your account"


def check_background_work(reader: Reader) -> None:
    cookie = sign_in(reader)
    with (
        reader.connect("/ws/notifications/", cookie) as socket,
        httpx.Client(headers={"Cookie": cookie}, timeout=PATIENCE) as client,
    ):
        page = client.get(reader.url("/"))
        form = {"csrfmiddlewaretoken": _token_of(page.text)}
        cookies = f"{cookie}; csrftoken={page.cookies['csrftoken']}"
        ordered = client.post(
            reader.url("/reports/"), data=form, headers={"Cookie": cookies}
        )
        assert (ordered.status_code, ordered.text) == (
            202,
            "Your report is being written",
        )
        text = json.loads(socket.recv(timeout=PATIENCE))["text"]
        assert text == "Your report is ready"


def sign_in(reader: Reader) -> str:
    """Sign in to the admin as the page says, and return the session's cookie."""
    with httpx.Client(timeout=PATIENCE) as client:
        page = client.get(reader.url("/admin/login/")).text
        form = {
            "username": "ana",
            "password": "open-sesame",
            "csrfmiddlewaretoken": _token_of(page),
        }
        client.post(reader.url("/admin/login/"), data=form)
        return f"sessionid={client.cookies['sessionid']}"


def _token_of(page: str) -> str:
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None
    return token[1]


CHECKS: dict[str, Callable[[Reader], None]] = {
    "first-websocket": check_shout,
    "chat": check_chat,
    "notifications": check_notifications,
    "background-work": check_background_work,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/venv/bin/python"
        reader = Reader(Path(folder), python, installs=True)
        for page in PAGES:
            print(f"==> {page}", flush=True)
            reader.follow(page)
    print("The tutorial works as it is written")


if __name__ == "__main__":
    main()
