"""docs/guides/platforms/vps.md, done as it is written, in a file tree of its own.

The service's command is run as it is, with free ports for 80 and 443. The certificate's
authority is an address that nothing listens on: until the first certificate is there,
the server has one of its own, and serves.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import find_free_port, server_starter
from tests.e2e.pasting import PASSWORD, ROOT, Tree

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

pytestmark = pytest.mark.e2e

PAGE = (ROOT / "docs" / "guides" / "platforms" / "vps.md").read_text("utf-8")
HOST = "mysite.example.com"
PATIENCE = 120


class Machine(Tree):
    """The tree with the site in it, and the two ports that stand for 80 and 443."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "mysite")
        self.http, self.https = find_free_port(), find_free_port()
        self.printed = self.follow(PAGE)
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def start(self, start: Callable[..., ServerProcess]) -> ServerProcess:
        """Run what the service says, as systemd would."""
        unit = self.read_unit("mysite.service")
        name, value = unit["Environment"].split("=")
        program, *words = self.moved(unit["ExecStart"]).split()
        folder = Path(self.moved(unit["WorkingDirectory"]))
        settings = folder / "mysite" / "production.py"
        text = settings.read_text()
        for number, port in ((443, self.https), (80, self.http)):
            text = text.replace(f'"0.0.0.0:{number}"', f'"127.0.0.1:{port}"')
        settings.write_text(text)
        return start(
            *words,
            port=self.https,
            python=program,
            cwd=folder,
            env={
                name: value,
                "DJSERVE_ACME_DIRECTORY": f"https://127.0.0.1:{find_free_port()}/",
                "DJSERVE_REDIRECT_PORT": "443",
            },
        )

    def client(self, port: int) -> httpx.Client:
        scheme = "https" if port == self.https else "http"
        return httpx.Client(
            base_url=f"{scheme}://127.0.0.1:{port}",
            headers={"Host": HOST, "Referer": f"https://{HOST}/admin/"},
            verify=self.context,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="dj-", dir="/tmp") as name:
        yield Machine(Path(name))


@pytest.fixture(scope="module")
def server(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    with server_starter(tmp_path_factory.mktemp("server")) as start:
        server = machine.start(start)
        server.wait_for("Redirecting http on")
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.output


def test_deployment_checks_are_clean(machine: Machine) -> None:
    assert "no issues" in machine.printed


@pytest.mark.usefixtures("server")
def test_plain_http_leads_to_https(machine: Machine) -> None:
    with machine.client(machine.http) as client:
        known = client.get("/admin/?a=1")
        unknown = client.get("/admin/", headers={"Host": "evil.example"})
        static = client.get("/static/admin/css/base.css")

    assert (known.status_code, known.headers["Location"]) == (
        301,
        f"https://{HOST}/admin/?a=1",
    )
    assert (unknown.status_code, "Location" in unknown.headers) == (400, False)
    assert static.status_code == 301


@pytest.mark.usefixtures("server")
def test_admin_is_signed_in_to_by_https(machine: Machine) -> None:
    with machine.client(machine.https) as client:
        form = client.get("/admin/login/?next=/admin/")
        (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
        # The cookies are of an address here, which the client does not send them to.
        cookies = {"csrftoken": form.cookies["csrftoken"]}
        answer = client.post(
            "/admin/login/?next=/admin/",
            headers={"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())},
            data={
                "username": "root",
                "password": PASSWORD,
                "csrfmiddlewaretoken": token,
                "next": "/admin/",
            },
        )
        style = client.get("/static/admin/css/base.css")
        stranger = client.get("/admin/login/", headers={"Host": "localhost"})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
    assert "Secure" in answer.headers["Set-Cookie"]
    assert form.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert style.headers["Content-Type"].startswith("text/css")
    assert stranger.status_code == 400


def test_key_is_read_by_the_server_alone(machine: Machine) -> None:
    mode = os.stat(machine.folder / "etc" / "mysite" / "secret_key").st_mode

    assert mode & 0o777 == 0o640
