"""Real clients get what they need: a browser, Socket.IO, curl, origins of libraries."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.sync.client import connect

from tests.conftest import ROOT, ServerProcess, find_free_port, server_starter
from tests.ecosystem.packages.clients import SECONDS
from tests.ecosystem.servers import DJSERVE, command_of, environment_of, prepare
from tests.ecosystem.table import CLIENTS
from tests.ecosystem.users import USERS

pytestmark = pytest.mark.e2e

RequireProgram = Callable[..., str]

SOCKET_IO = """
const { io } = require("socket.io-client");
const socket = io(process.argv[1], { transports: [process.argv[2]] });
socket.on("connect_error", (error) => { console.error(error); process.exit(1); });
socket.on("told", (data) => {
  socket.emit("ask", "what", (answer) => {
    console.log(JSON.stringify({ told: data, answer }));
    socket.disconnect();
  });
});
socket.on("connect", () => socket.emit("tell", "this"));
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The project of the clients, served by runasgi."""
    place = tmp_path_factory.mktemp("clients")
    environment = environment_of(CLIENTS, place)
    prepare(environment)
    port = find_free_port()
    with server_starter(place) as start:
        words = command_of(CLIENTS, DJSERVE, port)
        yield start(*words, port=port, env=environment)


def curl(require_program: RequireProgram, *words: str, content: bytes = b"") -> Any:
    command = [require_program("curl"), "--silent", "--show-error", "--noproxy", "*"]
    done = subprocess.run(
        [*command, "--max-time", "120", *words], input=content, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", ["put/", "aput/"])
def test_curl_sends_its_input_in_chunks(
    site: ServerProcess, require_program: RequireProgram, path: str
) -> None:
    content = b"x" * 300_000
    answer = curl(
        require_program, "--upload-file", "-", f"{site.url}/{path}", content=content
    )

    assert answer == {"size": len(content)}


def test_curl_sends_a_form_with_a_file_in_chunks(
    site: ServerProcess, require_program: RequireProgram
) -> None:
    answer = curl(
        require_program,
        *("--header", "Transfer-Encoding: chunked"),
        *("--form", "name=value", "--form", "file=@-;filename=large.bin"),
        f"{site.url}/upload/",
        content=bytes(3_000_000),
    )

    assert answer == {"files": {"file": 3_000_000}, "fields": {"name": "value"}}


def test_client_that_expects_100_sends_its_content_after_it(
    site: ServerProcess,
) -> None:
    """As .NET's HttpClient does with ``ExpectContinue``."""
    head = (
        f"POST /put/ HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
        "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.port), 60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"5\r\nhello\r\n0\r\n\r\n")
        answer = b""
        while b'{"size": 5}' not in answer:
            data = connection.recv(1000)
            assert data, answer
            answer += data
    assert answer.startswith(b"HTTP/1.1 200 ")


ORIGINS = {
    "browser": ("http://{}", True),
    "Go's x/net/websocket": ("http://{}/", True),
    "Starscream": ("ws://{}", True),
    "Starscream 3": ("ws://{}/", True),
    "a client without one": (None, True),
    "another site": ("http://example.org", False),
    "another site by Starscream": ("ws://example.org", False),
    "a sandboxed frame": ("null", False),
    "a file": ("file://", False),
}


@pytest.mark.parametrize("client", ORIGINS)
def test_origin_as_a_client_writes_it(site: ServerProcess, client: str) -> None:
    form, allowed = ORIGINS[client]
    host = f"127.0.0.1:{site.port}"
    origin = websockets.Origin(form.format(host)) if form else None
    try:
        with connect(
            f"ws://127.0.0.1:{site.port}/ws/sync/",
            origin=origin,
            additional_headers={"Cookie": f"sessionid={USERS[0].session}"},
            proxy=None,
            open_timeout=120,
        ) as connection:
            connection.send(json.dumps({"number": 1}))
            assert json.loads(connection.recv())["who"] == USERS[0].name
    except websockets.InvalidStatus as error:
        assert error.response.status_code == 403
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_socket_io_client_of_node(
    site: ServerProcess, require_program: RequireProgram, transport: str
) -> None:
    modules = Path(sys.prefix, "node", "node_modules")
    if not (modules / "socket.io-client").is_dir():
        pytest.skip("socket.io-client is not installed")
    done = subprocess.run(
        [require_program("node"), "-e", SOCKET_IO, site.url, transport],
        cwd=ROOT,
        env={**os.environ, "NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"told": "this", "answer": {"asked": "what"}}


@pytest.mark.browser
def test_browser_seeks_in_a_file_and_talks(
    site: ServerProcess, require_program: RequireProgram
) -> None:
    from playwright.sync_api import sync_playwright

    from tests.e2e.conftest import CHROMIUM_ARGS

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_program("chromium", env="CHROMIUM"),
            args=CHROMIUM_ARGS,
            timeout=240_000,
        )
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{site.url}/page/")
        sought = page.evaluate(SEEK)
        talked = page.evaluate(TALK)
        browser.close()

    assert sought == {"duration": SECONDS, "seekable": SECONDS, "at": SECONDS - 10}
    assert talked == [1, 2, 3]
    environment = Path(site.log.parent)
    assert "bytes=0-" in (environment / "ranges").read_text().splitlines()


SEEK = """async () => {
  const video = document.querySelector("video");
  if (!(video.readyState >= 1)) {
    await new Promise((resolve, reject) => {
      video.addEventListener("loadedmetadata", resolve);
      video.addEventListener("error", () => reject(video.error.message));
    });
  }
  const sought = new Promise((resolve) => video.addEventListener("seeked", resolve));
  video.currentTime = video.duration - 10;
  await sought;
  return {
    duration: video.duration,
    seekable: video.seekable.end(0),
    at: video.currentTime,
  };
}"""
TALK = """async () => {
  const socket = new WebSocket(location.href.replace(/^http(.*)page/, "ws$1ws/async"));
  const numbers = [];
  await new Promise((resolve, reject) => {
    socket.onerror = () => reject("no socket");
    socket.onopen = () => socket.send(JSON.stringify({ number: 1 }));
    socket.onmessage = (event) => {
      const number = JSON.parse(event.data).number;
      numbers.push(number);
      if (number === 3) resolve();
      else socket.send(JSON.stringify({ number: number + 1 }));
    };
  });
  socket.close();
  return numbers;
}"""
