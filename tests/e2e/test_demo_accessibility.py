"""What axe finds on the demo's pages, light and dark, on a desk and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.demo_site import CONNECTED, Site

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
COLOURS = ("light", "dark")
UNREADABLE_WHEN_DARK = """
@media (prefers-color-scheme: dark) { body * { color: #111; background: #000; } }
"""
ADD_STYLE = """(text) => {
    const style = new CSSStyleSheet();
    style.replaceSync(text);
    document.adoptedStyleSheets = [style];
}"""
GUEST_PAGES = ("/", "/accounts/login/", "/accounts/sign-up/", "/rooms/lobby/")
PAGES = ("/", "/rooms/lobby/", "/rooms/new/", "/people/", "/notifications/", "/status/")


def findings(page: Page) -> list[str]:
    """Return what axe calls serious or critical in either scheme of colours."""
    return [
        f"{page.url} ({colours}): {finding}"
        for colours in COLOURS
        for finding in findings_in(page, colours)
    ]


def findings_in(page: Page, colours: Any) -> list[str]:
    """Return what axe calls serious or critical, each with where it is."""
    page.emulate_media(color_scheme=colours)
    answer = Axe().run(page)
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in answer.response["violations"]
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(site: Site, size: dict[str, Any]) -> None:
    found = []
    guest = site.visit("/", **size)
    for path in GUEST_PAGES:
        guest.goto(site.url + path)
        found += findings(guest)
    admin = site.visit("/", "admin", **size)
    for path in PAGES:
        admin.goto(site.url + path)
        admin.wait_for_selector(CONNECTED, state="attached")
        found += findings(admin)
    found += open_parts(site, admin)

    assert found == []


def test_axe_looks_at_both_schemes_of_colours(site: Site) -> None:
    page = site.visit("/")
    page.evaluate(ADD_STYLE, UNREADABLE_WHEN_DARK)

    found = findings(page)
    assert found
    assert {"(dark): color-contrast" in finding for finding in found} == {True}


def open_parts(site: Site, admin: Page) -> list[str]:
    """Look at what opens on a page, and at a conversation with something in it."""
    admin.goto(f"{site.url}/people/")
    admin.get_by_role("button", name="Message ana").click()
    text = "Hello @ana, see http://127.0.0.1/rooms/lobby/"
    admin.get_by_role("textbox", name="Message", exact=True).fill(text)
    admin.get_by_role("button", name="Send").click()
    expect(admin.locator(".message[data-id]")).to_have_count(1)
    admin.locator(".message[data-id]").hover()
    found = findings(admin)
    admin.get_by_role("button", name="Edit message").click()
    found += findings(admin)
    admin.locator("#bell-button").click()
    expect(admin.locator("#bell-panel")).to_be_visible()
    found += findings(admin)
    admin.locator("details.menu summary").click()
    return found + findings(admin)


SHARE_HIDDEN = """(text) => {
    const badge = document.getElementById("bell-count");
    badge.hidden = false;
    badge.textContent = text;
    const [over, bell] = [badge, document.querySelector("#bell svg")]
        .map((each) => each.getBoundingClientRect());
    const width = Math.min(over.right, bell.right) - Math.max(over.left, bell.left);
    const height = Math.min(over.bottom, bell.bottom) - Math.max(over.top, bell.top);
    return Math.max(width, 0) * Math.max(height, 0) / (bell.width * bell.height);
}"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_number_does_not_hide_the_bell(site: Site, size: dict[str, Any]) -> None:
    page = site.visit("/", "ana", **size)

    for text in ("3", "27", "99+"):
        assert page.evaluate(SHARE_HIDDEN, text) < 0.25
