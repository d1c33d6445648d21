"""A browser over HTTP/2: a page, its requests, and a WebSocket on one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from djserve.net.certificates import development_certificate
from tests.e2e.demo_site import PATIENCE_MS

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

APPLICATION = """
PAGE = b'<!doctype html><title>Page</title><link rel="icon" href="data:,">'

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    told = f"{scope['http_version']} {scope['client'][1]}"
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": told})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        return
    body = PAGE if scope["path"] == "/" else told.encode()
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

PROTOCOLS = """async () => {
    await Promise.all([...Array(20).keys()].map(n => fetch(`/${n}`)));
    const entries = [...performance.getEntriesByType("navigation"),
                     ...performance.getEntriesByType("resource")];
    return entries.map(entry => entry.nextHopProtocol);
}"""

WEBSOCKET = """(size) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/socket`), got = [];
    socket.onmessage = event => {
        got.push(event.data);
        if (got.length == 1) socket.send("x".repeat(size));
        else socket.close(1000);
    };
    socket.onclose = event => resolve([got[0], got[1].length, event.code,
                                       event.wasClean]);
    socket.onerror = () => reject("failed");
})"""


@pytest.fixture
def url(tmp_path: Path, start_server: Callable[..., Any], free_port: int) -> str:
    (tmp_path / "application.py").write_text(APPLICATION)
    certificate = development_certificate(tmp_path / "certificates")
    start_server(
        "-m",
        "djserve",
        "application:app",
        "--bind",
        f"127.0.0.1:{free_port}",
        "--certfile",
        certificate.certfile,
        "--keyfile",
        certificate.keyfile,
        port=free_port,
        env={"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": ""},
    )
    return f"https://localhost:{free_port}/"


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    page = browser.new_page(ignore_https_errors=True)
    page.goto(url, timeout=PATIENCE_MS)
    yield page
    page.close()


def test_page_and_its_requests_use_http2(page: Page) -> None:
    assert set(page.evaluate(PROTOCOLS)) == {"h2"}


def test_websocket_shares_the_pages_connection(page: Page) -> None:
    told = page.evaluate("async () => (await fetch('/told')).text()")
    greeting, size, code, was_clean = page.evaluate(WEBSOCKET, 300_000)

    assert greeting == told
    assert greeting.startswith("2 ")
    assert (size, code, was_clean) == (300_000, 1000, True)
