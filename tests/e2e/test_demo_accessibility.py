"""What axe finds on the demo's pages, light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.demo_site import CONNECTED, Site

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.once]

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
GUEST_PAGES = ("/", "/accounts/login/", "/accounts/sign-up/", "/rooms/lobby/")
PAGES = ("/", "/rooms/lobby/", "/rooms/new/", "/people/", "/notifications/", "/status/")


def findings(page: Page) -> list[str]:
    """Return what axe calls serious or critical, each with where it is."""
    answer = Axe().run(page)
    return [
        f"{page.url}: {rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in answer.response["violations"]
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(
    site: Site, colours: str, size: dict[str, Any]
) -> None:
    found = []
    guest = site.visit("/", color_scheme=colours, **size)
    for path in GUEST_PAGES:
        guest.goto(site.url + path)
        found += findings(guest)
    admin = site.visit("/", "admin", color_scheme=colours, **size)
    for path in PAGES:
        admin.goto(site.url + path)
        admin.wait_for_selector(CONNECTED, state="attached")
        found += findings(admin)
    found += open_parts(site, admin)

    assert found == []


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
