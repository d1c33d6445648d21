"""docs/guides/deployment.md, done as it is written, in a file tree of its own.

The commands and files are those of the page and of deploy/. What is put on: what
``pasting`` does, free ports for the machine's, and in the place of systemd a process
that reads the two units.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.conftest import find_free_port, find_program
from tests.e2e.conftest import CHROMIUM_ARGS
from tests.e2e.pasting import PASSWORD, ROOT, Tree
from tests.e2e.workers import DEADLINE, wait_for

pytestmark = pytest.mark.e2e


# The reader's own part: a project that has a WebSocket.
ASGI = """
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()


class Echo(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data + " from " + self.scope["client"][0])


application = ProtocolTypeRouter(
    {"http": http, "websocket": URLRouter([path("ws/", Echo.as_asgi())])}
)
"""

# What systemd does with the two units: the socket first, as descriptor 3.
ACTIVATE = """
import os, socket, sys
path, *words = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o666)
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(words[0], words)
"""


class Machine(Tree):
    """A file tree with the site in it, and the ports that stand for its own."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        super().__init__(folder, "example")
        self.https, self.http, self.metrics = (find_free_port() for _ in range(3))
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)
        for name in ("etc/nginx", "etc/ssl/example", "run"):
            (folder / name).mkdir(parents=True)
        (folder / "run" / "djserve").mkdir()
        shutil.copy("/etc/nginx/mime.types", folder / "etc" / "nginx")
        certificate = authority.issue_cert("example.com")
        chain = certificate.cert_chain_pems[0].bytes()
        key = certificate.private_key_pem.bytes()
        for file, content in (("fullchain", chain), ("privkey", key)):
            path = folder / "etc" / "ssl" / "example" / f"{file}.pem"
            path.write_bytes(content)

    def set_up(self) -> None:
        """Do what the page says."""
        page = (ROOT / "docs" / "guides" / "deployment.md").read_text()
        section = page.split("## One machine, from nothing")[1].split("\n## ")[0]
        assert "no issues" in self.follow(section)
        self.about_proxies = page.split("## nginx, HAProxy, Caddy")[1].split("\n## ")[0]
        project = self.folder / "srv" / "example" / "project"
        (project / "example" / "asgi.py").write_text(ASGI)

    def follow_about(self, proxy: str) -> None:
        """Do what the page says about a proxy; its package has made the folder."""
        (self.folder / "etc" / proxy).mkdir(exist_ok=True)
        blocks = re.findall("```sh.*?```", self.about_proxies, re.S)
        self.follow(next(each for each in blocks if f"restart {proxy}" in each))

    @contextmanager
    def fronted_by(self, proxy: str, *words: str) -> Iterator[None]:
        """Run a proxy until the end of the block."""
        with running([*words], self.folder / f"{proxy}.log", self.is_open):
            yield

    @contextmanager
    def served(self) -> Iterator[None]:
        """Run what the units say, as systemd would."""
        unit = self.read_unit("djserve.service")
        path = self.moved(self.read_unit("djserve.socket")["ListenStream"])
        command = self.moved(unit["ExecStart"]).replace("9001", str(self.metrics))
        name, value = unit["Environment"].split("=")
        words = [sys.executable, "-c", ACTIVATE, path, *command.split()]
        with running(
            words,
            self.folder / "service.log",
            self.is_ready,
            cwd=self.moved(unit["WorkingDirectory"]),
            env={**self.clean_environment(), name: value},
        ):
            yield

    def is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.metrics}/readyz"
            return httpx.get(url, timeout=DEADLINE).status_code == 200
        except httpx.TransportError:
            return False

    def is_open(self) -> bool:
        """Return whether a proxy listens."""
        try:
            socket.create_connection(("127.0.0.1", self.https), DEADLINE).close()
        except OSError:
            return False
        return True

    def get(
        self, path: str, host: str = "example.com", **headers: str
    ) -> httpx.Response:
        """Ask the proxy by https, as if its name led here."""
        with httpx.Client(verify=self.context, timeout=DEADLINE) as client:
            return client.get(
                f"https://127.0.0.1:{self.https}{path}",
                headers={"Host": host, **headers},
                extensions={"sni_hostname": "example.com"},
            )

    def echo(self, text: str) -> str:
        with connect(
            "wss://example.com/ws/",
            sock=socket.create_connection(("127.0.0.1", self.https), DEADLINE),
            ssl=self.context,
            origin=Origin("https://example.com"),
            open_timeout=DEADLINE,
        ) as websocket:
            websocket.send(text)
            return str(websocket.recv(timeout=DEADLINE))

    def adapt(self, name: str, **changes: str) -> Path:
        """Move a file of deploy/ here, with this test's ports."""
        text = self.moved((ROOT / "deploy" / name).read_text())
        for old, new in changes.items():
            text = text.replace(old, new)
        for number, port in ((443, self.https), (80, self.http), (9001, self.metrics)):
            text = re.sub(rf"\b(listen |port ){number}\b", rf"\g<1>{port}", text)
            text = re.sub(rf"\bbind :{number}\b", f"bind 127.0.0.1:{port}", text)
        path = self.folder / name
        path.write_text(text)
        return path


@contextmanager
def running(
    words: list[str], log: Path, is_ready: Callable[[], bool], **options: Any
) -> Iterator[None]:
    """Run a program until the end of the block, once it is ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, **options)
    try:
        wait_for(lambda: is_ready() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    find_program("nginx")
    # Its sockets' paths are short enough for the kernel, where pytest's are not.
    with tempfile.TemporaryDirectory(prefix="dj-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        machine = Machine(folder, trustme.CA())
        machine.set_up()
        with machine.served():
            yield machine


@contextmanager
def nginx(machine: Machine) -> Iterator[None]:
    """nginx in front, by the file that the page has copied."""
    installed = machine.folder / "etc" / "nginx" / "nginx.conf"
    assert installed.read_text() == (ROOT / "deploy" / "nginx.conf").read_text()
    user = "user root;" if os.geteuid() == 0 else ""
    path = machine.adapt("nginx.conf", **{"user www-data;": user})
    words = [find_program("nginx"), "-c", str(path), "-p", str(machine.folder)]
    options = f"daemon off; error_log {machine.folder}/error.log;"
    with machine.fronted_by("nginx", *words, "-g", options):
        yield


@contextmanager
def haproxy(machine: Machine) -> Iterator[None]:
    """HAProxy, with the file for its certificate that the page makes."""
    machine.follow_about("haproxy")
    # Only root can become another user, and this machine may not have that one.
    path = machine.adapt("haproxy.cfg", **{"    user haproxy\n    ": "    "})
    path.write_text(re.sub("^    group .*$", "", path.read_text(), flags=re.M))
    words = [find_program("haproxy"), "-db", "-f", str(path)]
    with machine.fronted_by("haproxy", *words):
        # It learns by its own question that the server is there.
        wait_for(lambda: machine.get("/admin/login/").status_code == 200)
        yield


@contextmanager
def caddy(machine: Machine) -> Iterator[None]:
    """Caddy, with the test's certificate: no authority can look here."""
    machine.follow_about("caddy")
    ssl_folder = machine.folder / "etc" / "ssl" / "example"
    tls = f"tls {ssl_folder}/fullchain.pem {ssl_folder}/privkey.pem"
    path = machine.adapt(
        "Caddyfile",
        **{"example.com {": f"https://example.com:{machine.https} {{\n\t{tls}"},
    )
    options = f"admin off\n\thttp_port {machine.http}\n\thttps_port {machine.https}"
    path.write_text(f"{{\n\t{options}\n}}\n" + path.read_text())
    words = ["env", f"HOME={machine.folder}", f"XDG_DATA_HOME={machine.folder}"]
    words += [find_program("caddy"), "run", "--adapter", "caddyfile"]
    with machine.fronted_by("caddy", *words, "--config", str(path)):
        yield


PROXIES = {"nginx": nginx, "haproxy": haproxy, "caddy": caddy}


@pytest.fixture(scope="module", params=PROXIES)
def proxy(machine: Machine, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the proxy that stands in front of the machine."""
    with PROXIES[request.param](machine):
        yield request.param


def test_static_files_are_served(machine: Machine, proxy: str) -> None:
    style = machine.get("/static/admin/css/base.css")

    assert style.status_code == 200
    assert style.headers["Content-Type"].split(";")[0] == "text/css"
    servers = {"nginx": "nginx", "caddy": "Caddy", "haproxy": "djserve"}
    assert style.headers.get("Server") == servers[proxy]


def test_plain_http_leads_to_https(machine: Machine, proxy: str) -> None:
    url = f"http://127.0.0.1:{machine.http}/admin/"
    answer = httpx.get(url, headers={"Host": "example.com"}, timeout=DEADLINE)

    assert answer.status_code in {301, 302, 308}
    location = answer.headers["Location"].replace(f":{machine.https}", "")
    assert location == "https://example.com/admin/"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "evil.example"])
def test_stranger_gets_nothing(machine: Machine, proxy: str, host: str) -> None:
    try:
        answer = machine.get("/admin/login/", host=host)
    except httpx.RemoteProtocolError:
        return
    # HAProxy lets the site refuse it, Caddy answers with nothing.
    assert answer.status_code == 400 or not answer.content
    assert "csrf" not in answer.text


def test_websocket_knows_its_client(machine: Machine, proxy: str) -> None:
    assert machine.echo("hello") == "hello from 127.0.0.1"


def test_site_knows_that_it_is_asked_by_https(machine: Machine, proxy: str) -> None:
    # A client cannot say otherwise.
    page = machine.get("/admin/login/", **{"X-Forwarded-Proto": "http"})

    assert page.status_code == 200
    assert "Secure" in page.headers["Set-Cookie"]
    assert "max-age=31536000" in page.headers["Strict-Transport-Security"]


@pytest.mark.browser
def test_admin_is_signed_in_to_in_a_browser(
    machine: Machine, proxy: str, require_program: Callable[..., str]
) -> None:
    from playwright.sync_api import sync_playwright

    path = require_program("chromium", env="CHROMIUM")
    rules = f"MAP example.com:443 127.0.0.1:{machine.https}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[*CHROMIUM_ARGS, f"--host-resolver-rules={rules}"],
            timeout=240_000,
        )
        page = browser.new_page(ignore_https_errors=True)
        page.set_default_timeout(120_000)
        page.goto("https://example.com/admin/")
        page.fill("#id_username", "root")
        page.fill("#id_password", PASSWORD)
        page.click("input[type=submit]")
        page.wait_for_selector("#user-tools")
        assert page.title().startswith("Site administration")
        header = "getComputedStyle(document.querySelector('#header'))"
        assert page.evaluate(f"{header}.display") == "flex"
        answer = page.evaluate(
            """() => new Promise((resolve, reject) => {
                const socket = new WebSocket(`wss://${location.host}/ws/`);
                socket.onopen = () => socket.send("hello");
                socket.onmessage = (event) => resolve(event.data);
                socket.onerror = reject;
            })"""
        )
        browser.close()

    assert answer == "hello from 127.0.0.1"


def test_every_proxy_names_the_socket_of_the_unit() -> None:
    unit = (ROOT / "deploy" / "systemd" / "djserve.socket").read_text()
    (path,) = re.findall(r"^ListenStream=(.*)$", unit, re.M)
    for name in ("nginx.conf", "haproxy.cfg", "Caddyfile"):
        text = (ROOT / "deploy" / name).read_text()
        assert re.search(rf"unix[:@/]/?{re.escape(path)}", text), name
    service = (ROOT / "deploy" / "systemd" / "djserve.service").read_text()
    assert "--proxy-headers" in service
