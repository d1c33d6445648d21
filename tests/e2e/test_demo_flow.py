"""One conversation of three people in browsers, on each way to serve the demo."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from demo_project.chat.management.commands.demo_setup import SAMPLES
from djserve.net.certificates import development_certificate
from tests.e2e.demo_site import CONNECTED, Site, expect_shown, message, say

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

NAMES = ("ana", "ben", "chen")
# What a slow line carries a second, so that an upload's progress can be seen.
UPLOAD_RATE = 1_000_000
TEXTS = ".message[data-id] .text"

PROTOCOLS = """() => [
    ...performance.getEntriesByType("navigation"),
    ...performance.getEntriesByType("resource"),
].map(entry => entry.nextHopProtocol)"""


@dataclass(frozen=True)
class Conversation:
    """Three people in the lobby, and all that they have said since they came."""

    site: Site
    pages: dict[str, Page]
    said: list[str]

    def say(self, name: str, text: str) -> None:
        say(self.pages[name], text)
        self.said.append(text)

    def round(self, label: str) -> None:
        for name in NAMES:
            self.say(name, f"{label}, says {name}.")

    def expect_all(self) -> None:
        """Everybody sees everything: once, in one order, of which a reload knows."""
        for page in self.pages.values():
            said_in_all = len(SAMPLES["lobby"]) + len(self.said)
            expect(page.locator(TEXTS)).to_have_count(said_in_all)
            expect(page.locator(".pending")).to_have_count(0)
        seen = [self._texts(page) for page in self.pages.values()]
        assert seen[0] == seen[1] == seen[2]
        assert sorted(seen[0]) == sorted(self.said)
        for name in NAMES:
            own = [text for text in self.said if f"says {name}." in text]
            assert [text for text in seen[0] if text in own] == own

    def expect_reconnection(self) -> None:
        """Everybody lost the connection since this was last asked, and has it again."""
        for page in self.pages.values():
            page.wait_for_selector("html[data-lost]")
            page.wait_for_selector(CONNECTED)
            page.evaluate("delete document.documentElement.dataset.lost")

    def _texts(self, page: Page) -> list[str]:
        texts = page.locator(TEXTS).all_inner_texts()
        return [text for text in texts if text in self.said]


@pytest.fixture(params=["plain", "https", "workers", "redis"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    options, env, scheme = ["--supervisor=on"], {}, "http"
    if request.param == "redis":
        # Asked for before the servers, so that it outlives them.
        env = {"REDIS_URL": request.getfixturevalue("redis_url")}
        options = ["--workers=2"]
    elif request.param == "workers":
        options = ["--workers=2"]
    elif request.param == "https":
        files, scheme = development_certificate(tmp_path / "certificates"), "https"
        options += [f"--certfile={files.certfile}", f"--keyfile={files.keyfile}"]
    open_site: Callable[..., Site] = request.getfixturevalue("open_site")
    return open_site(*options, scheme=scheme, **env)


@pytest.fixture
def conversation(site: Site) -> Conversation:
    pages = {name: site.join("lobby", name) for name in NAMES}
    return Conversation(site, pages, [])


def test_conversation_outlasts_workers_and_server(
    conversation: Conversation, tmp_path: Path
) -> None:
    site, ana = conversation.site, conversation.pages["ana"]
    see_each_other(conversation)
    mention(conversation)
    upload(conversation, noise(tmp_path))
    conversation.expect_all()
    if site.url.startswith("https"):
        assert set(ana.evaluate(PROTOCOLS)) == {"h2"}

    conversation.round("Before the new worker")
    os.kill(site.server.process.pid, signal.SIGHUP)
    conversation.round("Under the old worker or the new")
    conversation.expect_reconnection()
    conversation.expect_all()

    site.server.stop()
    conversation.round("While nobody listens")
    expect(ana.locator(".pending")).to_contain_text("Waiting for a connection")
    site.restart()
    conversation.expect_reconnection()
    conversation.expect_all()
    for page in conversation.pages.values():
        page.reload()
    conversation.expect_all()


def see_each_other(conversation: Conversation) -> None:
    ana, *others = conversation.pages.values()
    field = ana.get_by_role("textbox", name="Message", exact=True)
    for page in others:
        expect(page.locator("#present li")).to_have_text(["Aana", "Bben", "Cchen"])
    field.press_sequentially("Hm")
    for page in others:
        expect_shown(page, "typing", "ana is typing…")
    conversation.say("ana", "Hello both, says ana.")
    for page in others:
        expect(page.locator("#typing")).to_have_text("")


def mention(conversation: Conversation) -> None:
    conversation.say("chen", "Have you seen this, @ben? That says chen.")

    ben, ana = conversation.pages["ben"], conversation.pages["ana"]
    expect(ben.locator("#bell-count")).to_have_text("1")
    expect_shown(ben, "toasts", "chen mentioned you in Lobby")
    expect(ana.locator("#bell-count")).to_be_hidden()


def noise(folder: Path) -> Path:
    """Make a picture that does not compress: about three megabytes."""
    path = folder / "noise.png"
    Image.frombytes("RGB", (1000, 1000), os.urandom(3_000_000)).save(path)
    return path


def upload(conversation: Conversation, picture: Path) -> None:
    ana, ben = conversation.pages["ana"], conversation.pages["ben"]
    line = ana.context.new_cdp_session(ana)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    line.send(
        "Network.emulateNetworkConditions", {**limits, "uploadThroughput": UPLOAD_RATE}
    )
    ana.set_input_files("#file", picture)
    ana.wait_for_selector("progress[aria-label='noise.png is ready']")
    line.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": -1})
    values: list[float] = ana.evaluate("window.progress")

    assert values == sorted(values)
    assert [value for value in values if 0 < value < picture.stat().st_size]
    conversation.say("ana", "Noise, says ana.")
    image = message(ben, "Noise, says ana.").get_by_role("img", name="noise.png")
    expect(image).to_be_visible()
