"""Sending notifications and marking them read."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from demo_project.notifications import services
from demo_project.notifications.models import Notification


def test_each_inbox_counts_for_itself(ana: User, ben: User) -> None:
    services.notify(ana, "one")
    services.notify(ben, "one of ben's")
    services.notify(ana, "two")

    serials = Notification.objects.order_by("pk").values_list("serial", flat=True)
    assert list(serials) == [1, 1, 2]


def test_read_up_to_a_serial_leaves_later_ones_unread(ana: User, ben: User) -> None:
    for text in ("one", "two", "three"):
        services.notify(ana, text)
    services.notify(ben, "not ana's")
    services.mark_read(ana, 2)

    assert [note.is_read for note in services.latest(ana)] == [False, True, True]
    assert services.unread_count(ben) == 1


def test_later_ones_come_oldest_first(ana: User) -> None:
    for text in ("one", "two", "three"):
        services.notify(ana, text)

    assert [note.text for note in services.after(ana, 1)] == ["two", "three"]


@pytest.mark.parametrize("url", ["https://evil.example/", "//evil.example/", "x"])
def test_url_leads_nowhere_but_to_this_site(ana: User, url: str) -> None:
    with pytest.raises(ValueError, match="path of this site"):
        services.notify(ana, "look", url=url)


def test_long_text_is_cut_to_what_fits(ana: User) -> None:
    assert len(services.notify(ana, "x " * 400).text) == services.TEXT_LIMIT


def test_command_notifies(ana: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("notify", "ana", "Lunch is ready")

    assert services.latest(ana)[0].text == "Lunch is ready"
    assert "Notified ana." in capsys.readouterr().out


def test_command_names_a_user_who_is_not_there() -> None:
    with pytest.raises(CommandError, match="no user 'zoe'"):
        call_command("notify", "zoe", "Hello?")
