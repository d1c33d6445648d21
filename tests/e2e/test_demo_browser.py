"""The demo in a browser, served by runasgi: what two people see of each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from demo_project.chat.management.commands.demo_setup import PASSWORD
from tests.e2e.demo_site import CONNECTED, Site, expect_shown, message, say

pytestmark = [pytest.mark.e2e, pytest.mark.browser]


def test_visitor_signs_in_and_comes_to_the_page_asked_for(site: Site) -> None:
    page = site.visit("/rooms/new/")
    page.get_by_label("Username").fill("ana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()

    page.wait_for_url(f"{site.url}/rooms/new/")
    expect(page.locator("details.menu")).to_contain_text("Signed in as ana")


def test_two_people_chat(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    ana.get_by_role("textbox", name="Message", exact=True).press_sequentially("Hey")

    expect_shown(ben, "typing", "ana is typing…")
    say(ana, "Hello <b>ben</b> http://127.0.0.1/x")
    expect(message(ben, "Hello <b>ben</b>")).to_have_count(1)
    expect(ben.locator("#typing")).to_have_text("")
    link = message(ben, "Hello").get_by_role("link", name="http://127.0.0.1/x")
    expect(link).to_have_attribute("rel", re.compile("noopener"))
    say(ben, "Hello ana")
    expect(message(ana, "Hello ana")).to_have_count(1)
    expect(ana.locator(".pending")).to_have_count(0)


def test_presence_follows_a_closed_window(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    present = ana.locator("#present li")

    expect(present).to_have_text(["Aana", "Bben"])
    ben.context.close()
    expect(present).to_have_text(["Aana"])


def test_mention_rings_the_bell_until_it_is_read_on_one_tab(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.join("channels", "ben")
    other_tab = ben.context.new_page()
    other_tab.goto(site.url)
    say(ana, "Look here, @ben")

    for page in (ben, other_tab):
        expect(page.locator("#bell-count")).to_have_text("1")
    expect_shown(ben, "toasts", "ana mentioned you in Lobby")
    badge = ben.locator("[data-room=lobby] .badge")
    expect(badge).to_have_text("1 unread")
    other_tab.get_by_role("button", name="Notifications, 1 unread").click()
    note = other_tab.get_by_role("link", name="ana mentioned you in Lobby")
    for page in (ben, other_tab):
        expect(page.locator("#bell-count")).to_be_hidden()
    note.first.click()
    expect(message(other_tab, "Look here, @ben")).to_be_in_viewport()
    expect(badge).to_be_hidden()


def test_notification_comes_as_a_server_sent_event_too(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.visit("/", "ben")
    mark = ben.locator("html")
    ben.evaluate("""() => {
        const { dataset } = document.documentElement;
        const source = new EventSource("/notifications/stream/");
        source.onopen = () => { dataset.stream = "open"; };
        source.addEventListener("notification", ({ data }) => { dataset.note = data; });
    }""")
    expect(mark).to_have_attribute("data-stream", "open")
    say(ana, "Do you stream, @ben")

    expect(mark).to_have_attribute("data-note", re.compile("text"))
    note = json.loads(mark.get_attribute("data-note") or "")
    assert note["text"] == "ana mentioned you in Lobby"


def test_message_written_while_the_server_is_away_arrives_once(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    site.server.stop()
    expect(ana.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    say(ana, "Is anybody there?")
    expect(ana.locator(".pending")).to_contain_text("Waiting for a connection")
    site.restart()

    for page in (ana, ben):
        expect(message(page, "Is anybody there?")).to_have_count(1)
        page.wait_for_selector(CONNECTED)
    expect(ana.locator(".pending")).to_have_count(0)
    ana.reload()
    expect(message(ana, "Is anybody there?")).to_have_count(1)


def test_what_was_missed_while_offline_is_made_up_for(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    say(ana, "Before")
    expect(message(ben, "Before")).to_have_count(1)
    ben.context.set_offline(True)
    expect(ben.locator("#connection")).to_have_text("Offline")
    say(ana, "Meanwhile")
    edit(ana, "Before", "Before, edited")
    ben.context.set_offline(False)

    expect(message(ben, "Meanwhile")).to_have_count(1)
    expect(message(ben, "Before, edited")).to_have_count(1)
    expect(message(ben, "Before")).to_have_count(1)


def test_edit_and_deletion_show_for_the_other(site: Site) -> None:
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    say(ana, "Frist")
    edit(ana, "Frist", "First")

    expect(message(ben, "First")).to_contain_text("edited")
    message(ben, "First").hover()
    expect(message(ben, "First").get_by_role("button", name="Edit")).to_be_hidden()
    ana.on("dialog", lambda dialog: dialog.accept())
    message(ana, "First").hover()
    message(ana, "First").get_by_role("button", name="Delete message").click()
    expect(ben.get_by_text("This message was deleted.")).to_be_visible()
    expect(message(ben, "First")).to_have_count(0)


def edit(page: Page, old: str, new: str) -> None:
    message(page, old).hover()
    message(page, old).get_by_role("button", name="Edit message").click()
    page.get_by_role("textbox", name="Edit message").fill(new)
    page.get_by_role("button", name="Save").click()


def test_picture_is_sent_with_its_thumbnail(site: Site, tmp_path: Path) -> None:
    picture = tmp_path / "bay.png"
    Image.new("RGB", (1200, 600), "teal").save(picture)
    ana, ben = site.join("lobby", "ana"), site.join("lobby", "ben")
    ana.set_input_files("#file", picture)
    ana.wait_for_selector("progress[aria-label='bay.png is ready']")
    say(ana, "The bay")

    image = message(ben, "The bay").get_by_role("img", name="bay.png")
    expect(image).to_be_visible()
    assert image.evaluate("node => node.decode().then(() => node.naturalWidth)") == 640


def test_file_of_no_allowed_type_is_refused(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "setup.png"
    program.write_bytes(b"MZ\x90\x00\x03\x00")
    ana = site.join("lobby", "ana")
    ana.set_input_files("#file", program)

    expect(ana.locator("#composer-error")).to_contain_text(
        "Only pictures, PDF and text"
    )
    expect(ana.locator("#uploads li")).to_have_count(0)


def test_older_messages_load_on_scroll_and_keep_the_place(site: Site) -> None:
    ana = site.join("channels", "ana")
    loaded = ana.locator(".message[data-id]")
    expect(loaded).to_have_count(40)
    expect(message(ana, "Number 119.")).to_be_in_viewport()
    first = loaded.first.get_attribute("id")
    ana.locator("#timeline").evaluate("node => { node.scrollTop = 0 }")

    expect(ana.locator(f"#{first}")).to_be_in_viewport()
    for count in (80, 120, 122):
        expect(loaded).to_have_count(count)
        ana.locator("#timeline").evaluate("node => { node.scrollTop = 0 }")
    positions = loaded.evaluate_all(
        "nodes => nodes.map(n => Number(n.dataset.position))"
    )
    assert positions == list(range(1, 123))
    expect(ana.get_by_text("This is where the conversation starts.")).to_be_attached()


def test_signing_out_ends_the_other_tab(site: Site) -> None:
    ana = site.join("lobby", "ana")
    other_tab = ana.context.new_page()
    other_tab.goto(site.url)
    other_tab.locator("details.menu summary").click()
    other_tab.get_by_role("button", name="Sign out").click()

    expect(ana.locator("#connection")).to_have_text("Signed out. Reload to go on.")
    expect(ana.locator("#text")).to_be_disabled()


def test_session_that_ended_while_the_page_was_away_is_told(site: Site) -> None:
    ana = site.join("lobby", "ana")
    ana.context.set_offline(True)
    expect(ana.locator("#connection")).to_have_text("Offline")
    ana.context.clear_cookies()
    ana.context.set_offline(False)

    expect(ana.locator("#connection")).to_have_text("Signed out. Reload to go on.")


def test_status_page_is_told_when_its_session_ended(site: Site) -> None:
    admin = site.visit("/status/", "admin")
    admin.wait_for_selector(CONNECTED, state="attached")
    admin.context.set_offline(True)
    expect(admin.locator("#connection")).to_have_text("Offline")
    admin.context.clear_cookies()
    admin.context.set_offline(False)

    expect(admin.locator("#connection")).to_have_text("Signed out. Reload to go on.")


@pytest.mark.parametrize(
    "mark", ["message-)", "message-%00", "message-1[x", "message-"]
)
def test_link_to_no_message_opens_the_room_all_the_same(site: Site, mark: str) -> None:
    ana = site.visit(f"/rooms/lobby/#{mark}", "ana")
    say(ana, "Here I am")

    expect(message(ana, "Here I am")).to_have_count(1)
    expect(ana.locator(".pending")).to_have_count(0)


def test_removed_member_is_told_and_then_finds_nothing(site: Site) -> None:
    ana, ben = site.join("design", "ana"), site.join("design", "ben")
    ana.get_by_role("button", name="Remove ben").click()

    expect(ben.locator("#connection")).to_have_text("You are no longer in this room.")
    response = ben.reload()
    assert response is not None
    assert response.status == 404


def test_guest_reads_along(site: Site) -> None:
    ana, guest = site.join("lobby", "ana"), site.join("lobby")
    say(ana, "Everyone can see this")

    expect(message(guest, "Everyone can see this")).to_have_count(1)
    expect(guest.locator("textarea")).to_have_count(0)
    expect(ana.locator("#guests")).to_have_text("and 1 guest")


def test_mention_is_completed_by_the_keyboard(site: Site) -> None:
    ana = site.join("lobby", "ana")
    field = ana.get_by_role("textbox", name="Message", exact=True)
    field.press_sequentially("Hi @b")
    expect(ana.get_by_role("option")).to_have_text(["Bben"])
    field.press("Enter")

    expect(field).to_have_value("Hi @ben ")
    field.press("Enter")
    expect(message(ana, "Hi @ben").locator(".mention")).to_have_text("@ben")


@pytest.mark.parametrize("path", ["/", "/rooms/lobby/", "/people/", "/notifications/"])
def test_phone_shows_pages_without_scrolling_sideways(site: Site, path: str) -> None:
    phone = {"width": 360, "height": 700}
    page = site.visit(path, "ana", viewport=phone, has_touch=True)
    page.wait_for_selector(CONNECTED, state="attached")

    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= phone["width"]


def test_status_page_draws_what_it_measures(site: Site) -> None:
    site.join("lobby", "ana")
    page = site.visit("/status/", "admin")

    # The lobby, two inboxes and the page's own.
    expect(page.locator("[data-chart=connections] [data-value]")).to_have_text("4")
    expect(page.locator("[data-chart=latency] path.series")).to_have_count(3)
    expect(page.locator("[data-chart=latency] [data-value]")).to_have_text(
        re.compile(r"^[\d.]+ / [\d.]+ / [\d.]+$")
    )
