"""Django over HTTP/3: runserver --https, a synchronous view, the demo in Chromium."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from djserve.net.certificates import development_certificate
from tests.e2e.conftest import serve_demo
from tests.e2e.demo_site import PATIENCE_MS, Prepared, Site, expect_shown, message, say
from tests.e2e.http3_client import Client, open_client
from tests.e2e.http3_server import quic_arguments

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e


def test_synchronous_view_under_runserver_https(
    prepared: Prepared,
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> None:
    data = prepared.copy(tmp_path / "data")
    server = start_server(
        *("manage.py", "runserver", "--https", "--http3", str(free_port)),
        port=free_port,
        env={"DEMO_DATA_DIR": str(data), "XDG_DATA_HOME": str(tmp_path / "home")},
    )
    # The port is open before: the reloader's parent holds it.
    server.wait_for("Quit the server")

    async def sign_in(client: Client) -> tuple[int, bytes]:
        page = await client.fetch("/admin/login/")
        token = next(
            value.partition(b";")[0]
            for name, value in page.heads[-1]
            if name == b"set-cookie" and value.startswith(b"csrftoken=")
        )
        fields = [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"cookie", token),
            (b"referer", b"https://localhost/"),
        ]
        form = b"username=nobody&password=x&csrfmiddlewaretoken=" + token[10:]
        answer = await client.fetch(
            "/admin/login/", method="POST", fields=fields, content=form
        )
        return page.status, bytes(answer.content)

    ca = tmp_path / "home" / "djserve" / "ca.pem"
    context = ssl.create_default_context(cafile=str(ca))
    page = httpx.get(f"https://127.0.0.1:{free_port}/admin/login/", verify=context)
    assert page.headers["alt-svc"] == f'h3=":{free_port}"; ma=86400'

    async def run() -> tuple[int, bytes]:
        async with open_client(free_port, ca) as client:
            return await sign_in(client)

    status, content = asyncio.run(run())
    assert status == 200
    assert b"Please enter the correct username and password" in content
    assert "POST /admin/login/ 200" in server.output


@pytest.fixture
def certificate(tmp_path: Path) -> Any:
    return development_certificate(tmp_path / "certificates")


@pytest.fixture
def quic_browser(
    certificate: Any, require_program: Callable[..., str], free_port: int
) -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    origin = f"127.0.0.1:{free_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_program("chromium", env="CHROMIUM"),
            args=quic_arguments(origin, Path(certificate.certfile)),
            timeout=4 * PATIENCE_MS,
        )
        yield browser
        browser.close()


@pytest.mark.browser
def test_demo_in_chromium(
    quic_browser: Browser,
    certificate: Any,
    prepared: Prepared,
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> None:
    data = prepared.copy(tmp_path / "data")
    options = [*("--http3", "--certfile", certificate.certfile)]
    options += ["--keyfile", certificate.keyfile]
    serve = partial(serve_demo, start_server, data, free_port, *options)
    site = Site(serve, quic_browser, prepared, data, "https")
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    say(ana, "Hello over QUIC, @ben")

    message(ben, "Hello over QUIC").wait_for()
    expect_shown(ben, "toasts", "ana mentioned you in Lobby")
    protocols = ana.evaluate(
        """() => [
            ...performance.getEntriesByType("navigation"),
            ...performance.getEntriesByType("resource"),
        ].map(entry => entry.nextHopProtocol)"""
    )
    assert set(protocols) == {"h3"}
    site.close()
