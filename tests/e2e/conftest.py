"""What the demo's tests share: a browser, a prepared database, a site, a Redis."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import find_free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.e2e.demo_site import Site

CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(require_program: Callable[..., str]) -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    path = require_program("chromium", env="CHROMIUM")
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as demo_setup makes it."""
    from tests.e2e.demo_site import manage

    path = tmp_path_factory.mktemp("demo")
    manage(path, "demo_setup")
    return path


@pytest.fixture
def open_site(
    browser: Browser,
    prepared: Path,
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> Iterator[Callable[..., Site]]:
    """Give ``open_site(*options, scheme="http", env={})``: a demo served by runasgi."""
    from tests.e2e.demo_site import Site

    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    sites: list[Site] = []

    def open_site(*options: str, scheme: str = "http", **env: str) -> Site:
        def start() -> Any:
            return start_server(
                "manage.py",
                "runasgi",
                f"127.0.0.1:{free_port}",
                *options,
                port=free_port,
                env={"DEMO_DATA_DIR": str(data), **env},
            )

        sites.append(Site(start, browser, data, scheme))
        return sites[-1]

    yield open_site
    for context in browser.contexts:
        context.close()
    for site in sites:
        assert site.problems == []
        assert "Traceback" not in site.server.output


@pytest.fixture
def redis_url(require_program: Callable[..., str], tmp_path: Path) -> Iterator[str]:
    """The address of a Redis that keeps nothing."""
    program = require_program("redis-server")
    port = find_free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(120)
