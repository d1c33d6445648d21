"""A demo that runs, and the people who look at it in browsers."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from tests.conftest import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
CONNECTED = "#connection[data-state=connected]"
PATIENCE_MS = 60_000
# What a busy machine may take, as long as the tests wait themselves.
PATIENT_SERVER = (
    "--header-timeout=60",
    "--websocket-connect-timeout=60",
    "--worker-hang-timeout=100",
    "--shutdown-timeout=100",
)

# What demo_setup makes, a room with a history of several pages, everything said before
# any rate limit looks back, and a session of each of the people.
FURNISH = """
import json
from datetime import timedelta
from django.core.management import call_command
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.test import Client
from demo_project.chat.models import Membership, Message, Room
from demo_project.chat.services.versions import next_version
call_command("demo_setup")
ana, room = User.objects.get(username="ana"), Room.objects.get(slug="channels")
with transaction.atomic():
    for number in range(120):
        version = next_version(room.pk)
        Message.objects.create(
            room=room, author=ana, position=version, version=version,
            text=f"Number {number}.",
        )
    Message.objects.update(created_at=F("created_at") - timedelta(hours=1))
    Membership.objects.filter(room=room).update(read_position=version)
def sign_in(user):
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value
print(json.dumps({user.username: sign_in(user) for user in User.objects.all()}))
"""

# Writes down on the page itself what shows only for some seconds: that the connection
# was lost, who is typing, what a toast says, and each value of a progress bar.
WATCH = """
window.progress = [];
new MutationObserver((records) => {
    const seen = document.documentElement.dataset;
    const state = document.getElementById("connection")?.dataset.state;
    if (state === "reconnecting") seen.lost = "yes";
    for (const id of ["typing", "toasts"]) {
        const text = document.getElementById(id)?.textContent.trim();
        if (text) seen[id] = `${seen[id] ?? ""}\\n${text}`;
    }
    for (const { target } of records) {
        if (target.matches?.("#uploads progress")) window.progress.push(target.value);
    }
}).observe(document, {
    subtree: true, childList: true, attributeFilter: ["data-state", "value"],
});
"""


@dataclass(frozen=True)
class Prepared:
    """A data directory that is to be copied, and the session of each of its people."""

    folder: Path
    sessions: Mapping[str, str]

    def copy(self, folder: Path) -> Path:
        shutil.copytree(self.folder, folder)
        return folder

    def restore(self, folder: Path) -> None:
        """Put a copy's database back to the original, under the server that uses it."""
        with (
            closing(sqlite3.connect(self.folder / "db.sqlite3")) as original,
            closing(sqlite3.connect(folder / "db.sqlite3", timeout=60)) as copy,
        ):
            original.backup(copy)


class Site:
    """A running demo and the people who look at it."""

    def __init__(
        self,
        start: Callable[[], ServerProcess],
        browser: Browser,
        prepared: Prepared,
        data: Path,
        scheme: str = "http",
    ) -> None:
        self._start = start
        self._browser = browser
        self._prepared = prepared
        self._data = data
        self._scheme = scheme
        self._problems: list[str] = []
        self._output_read = 0
        self.server = start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server.port}"

    def restart(self) -> None:
        self.server = self._start()
        self._output_read = 0

    def reset(self) -> None:
        """Make it a site on which nobody has done anything."""
        if self.server.process.poll() is not None:
            self.restart()
        self._prepared.restore(self._data)

    def visit(self, path: str, name: str | None = None, **context: Any) -> Page:
        """Open a page, in a browser window of its own, signed in as somebody."""
        window = self._browser.new_context(
            ignore_https_errors=True, storage_state=self._signed_in(name), **context
        )
        window.set_default_timeout(PATIENCE_MS)
        window.add_init_script(WATCH)
        window.on("weberror", lambda error: self._problems.append(str(error.error)))
        page = window.new_page()
        page.goto(self.url + path)
        return page

    def join(self, slug: str, name: str | None = None, **context: Any) -> Page:
        """Open a room and wait for its sockets."""
        page = self.visit(f"/rooms/{slug}/", name, **context)
        page.wait_for_selector(CONNECTED, state="attached")
        return page

    def close(self) -> None:
        """Close all windows; fail on errors of their scripts or of the server."""
        for window in self._browser.contexts:
            window.close()
        problems, self._problems = self._problems, []
        output = self.server.output[self._output_read :]
        self._output_read += len(output)

        assert problems == []
        assert "Traceback" not in output

    def _signed_in(self, name: str | None) -> Any:
        if name is None:
            return None
        cookie = {
            "name": "sessionid",
            "value": self._prepared.sessions[name],
            "domain": "127.0.0.1",
            "path": "/",
            "expires": -1,
            "httpOnly": True,
            "secure": False,
            "sameSite": "Lax",
        }
        return {"cookies": [cookie], "origins": []}


def prepare(folder: Path) -> Prepared:
    """Make a data directory as demo_setup does, and a little more."""
    answer = manage(folder, "shell", "-c", FURNISH)
    return Prepared(folder, json.loads(answer.splitlines()[-1]))


def manage(data: Path, *args: str, env: Mapping[str, str] | None = None) -> str:
    """Run a command on a data directory and return what it prints."""
    return subprocess.run(
        [sys.executable, "manage.py", *args],
        cwd=ROOT,
        env={**os.environ, "DEMO_DATA_DIR": str(data), **(env or {})},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    ).stdout


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def message(page: Page, text: str) -> Locator:
    return page.locator(".message[data-id]", has_text=text)


def expect_shown(page: Page, place: str, text: str) -> None:
    """Wait until a text has been in a place of the page, if only for a moment."""
    from playwright.sync_api import expect

    mark = re.compile(re.escape(text))
    expect(page.locator("html")).to_have_attribute(f"data-{place}", mark)
