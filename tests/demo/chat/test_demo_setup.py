"""The command that prepares the demo."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from demo_project.chat.management.commands.demo_setup import PASSWORD
from demo_project.chat.models import Membership, Message, Room


def counts() -> list[int]:
    return [model.objects.count() for model in (User, Room, Membership, Message)]


def test_second_run_changes_nothing(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.DEBUG = True
    call_command("demo_setup")
    first = counts()
    call_command("demo_setup")

    assert counts() == first
    assert PASSWORD in capsys.readouterr().out
    assert Client().login(username="ben", password=PASSWORD)


def test_sample_passwords_need_debug_or_force(settings: Any) -> None:
    settings.DEBUG = False

    with pytest.raises(CommandError, match="--force"):
        call_command("demo_setup")
    assert not User.objects.exists()
