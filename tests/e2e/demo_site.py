"""A demo that runs, and the people who look at it in browsers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from demo_project.chat.management.commands.demo_setup import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
CONNECTED = "#connection[data-state=connected]"


class Site:
    """A running demo and the people who look at it."""

    def __init__(
        self, start: Callable[[], Any], browser: Browser, data: Path, scheme: str
    ) -> None:
        self._start = start
        self._browser = browser
        self._scheme = scheme
        self.data = data
        self.problems: list[str] = []
        self.server = start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server.port}"

    def restart(self) -> None:
        self.server = self._start()

    def visit(self, path: str, name: str | None = None, **context: Any) -> Page:
        """Open a page, in a browser window of its own, signed in as somebody."""
        window = self._browser.new_context(ignore_https_errors=True, **context)
        page = window.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.set_default_timeout(60_000)
        if name is None:
            page.goto(self.url + path)
            return page
        page.goto(f"{self.url}/accounts/login/?next={path}")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        page.wait_for_url(self.url + path)
        return page

    def join(self, slug: str, name: str | None = None, **context: Any) -> Page:
        """Open a room and wait for its sockets."""
        page = self.visit(f"/rooms/{slug}/", name, **context)
        page.wait_for_selector(CONNECTED, state="attached")
        return page


def manage(data: Path, *args: str, env: Mapping[str, str] | None = None) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *args],
        cwd=ROOT,
        env={**os.environ, "DEMO_DATA_DIR": str(data), **(env or {})},
        check=True,
        capture_output=True,
        timeout=300,
    )


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def message(page: Page, text: str) -> Locator:
    return page.locator(".message[data-id]", has_text=text)
