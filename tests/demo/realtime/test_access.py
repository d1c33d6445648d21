"""A sign-in that has ended, though no event told of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from demo_project.realtime.access import is_signed_in


@pytest.fixture
def key(ana: User) -> str:
    """The session of a browser in which ana has signed in."""
    browser = Client()
    browser.force_login(ana)
    return str(browser.cookies["sessionid"].value)


def test_sign_in_holds(ana: User, key: str) -> None:
    assert is_signed_in(ana, key)


def test_deleted_session_ends_it(ana: User, key: str) -> None:
    Session.objects.all().delete()

    assert not is_signed_in(ana, key)


def test_session_that_ran_out_ends_it(ana: User, key: str) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))

    assert not is_signed_in(ana, key)


def test_new_password_ends_it(ana: User, key: str) -> None:
    ana.set_password("another-one-entirely")
    ana.save()

    assert not is_signed_in(ana, key)


def test_account_that_is_switched_off_or_gone_ends_it(ana: User, key: str) -> None:
    User.objects.update(is_active=False)
    assert not is_signed_in(ana, key)
    User.objects.all().delete()
    assert not is_signed_in(ana, key)


def test_session_of_somebody_else_ends_it(ben: User, key: str) -> None:
    assert not is_signed_in(ben, key)
    # It was only looked at.
    assert Session.objects.filter(session_key=key).exists()
