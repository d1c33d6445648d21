"""What the demo's tests share: a browser, a prepared database, a site, a Redis."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import find_free_port, server_starter

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.e2e.demo_site import Prepared, Site

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


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read; those of pytest are root's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


# Not for the whole session: while Playwright runs, its event loop is the thread's
# current one, and no other test could start its own.
@pytest.fixture(scope="module")
def browser(require_program: Callable[..., str]) -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    from tests.e2e.demo_site import PATIENCE_MS

    path = require_program("chromium", env="CHROMIUM")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=CHROMIUM_ARGS, timeout=4 * PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    from tests.e2e.demo_site import prepare

    return prepare(tmp_path_factory.mktemp("demo"))


def serve_demo(
    start: Callable[..., Any], data: Path, port: int, *options: str, **env: str
) -> Any:
    """Start runasgi with the demo on a data directory."""
    from tests.e2e.demo_site import PATIENT_SERVER

    words = ["manage.py", "runasgi", f"127.0.0.1:{port}", *PATIENT_SERVER, *options]
    return start(*words, port=port, env={"DEMO_DATA_DIR": str(data), **env})


@pytest.fixture
def open_site(
    browser: Browser,
    prepared: Prepared,
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> Iterator[Callable[..., Site]]:
    """Give ``open_site(*options, scheme="http", **env)``: a demo of the test's own."""
    from tests.e2e.demo_site import Site

    data = prepared.copy(tmp_path / "data")
    sites: list[Site] = []

    def open_site(*options: str, scheme: str = "http", **env: str) -> Site:
        serve = partial(serve_demo, start_server, data, free_port, *options, **env)
        sites.append(Site(serve, browser, prepared, data, scheme))
        return sites[-1]

    yield open_site
    for site in sites:
        site.close()


@pytest.fixture(scope="module")
def shared_site(
    browser: Browser, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    from tests.e2e.demo_site import Site

    folder = tmp_path_factory.mktemp("site")
    data = prepared.copy(folder / "data")
    with server_starter(folder) as start:
        serve = partial(serve_demo, start, data, find_free_port())
        yield Site(serve, browser, prepared, data)


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """A demo on which nobody has done anything, served by runasgi."""
    shared_site.reset()
    yield shared_site
    shared_site.close()


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
