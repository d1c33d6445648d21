"""A sign-in that has ended, though no event told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from demo_project.realtime.access import SignIn, is_signed_in

Look = Callable[[User, str | None], bool]


def _holds_still(user: User, key: str | None) -> bool:
    """Look as a connection does whose sign-in held before, where it did."""
    return _known(user, key).holds()


_sign_ins: dict[tuple[int | None, str | None], SignIn] = {}


def _known(user: User, key: str | None) -> SignIn:
    return _sign_ins.setdefault((user.pk, key), SignIn(user, key))


@pytest.fixture(params=[is_signed_in, _holds_still], ids=["once", "again"])
def look(request: pytest.FixtureRequest, ana: User, key: str) -> Iterator[Look]:
    """Return whether a sign-in holds; ``again`` has found that it did, once."""
    _known(ana, key).holds()
    yield request.param
    _sign_ins.clear()


@pytest.fixture
def key(ana: User) -> str:
    """The session of a browser in which ana has signed in."""
    browser = Client()
    browser.force_login(ana)
    return str(browser.cookies["sessionid"].value)


def test_sign_in_holds(look: Look, ana: User, key: str) -> None:
    assert look(ana, key)


def test_deleted_session_ends_it(look: Look, ana: User, key: str) -> None:
    Session.objects.all().delete()

    assert not look(ana, key)


def test_session_that_ran_out_ends_it(look: Look, ana: User, key: str) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))

    assert not look(ana, key)


def test_new_password_ends_it(look: Look, ana: User, key: str) -> None:
    ana.set_password("another-one-entirely")
    ana.save()

    assert not look(ana, key)


def test_account_that_is_switched_off_or_gone_ends_it(
    look: Look, ana: User, key: str
) -> None:
    User.objects.update(is_active=False)
    assert not look(ana, key)
    User.objects.all().delete()
    assert not look(ana, key)


def test_session_of_somebody_else_ends_it(look: Look, ben: User, key: str) -> None:
    assert not look(ben, key)
    # It was only looked at.
    assert Session.objects.filter(session_key=key).exists()


def test_sign_in_that_holds_is_one_statement(ana: User, key: str) -> None:
    sign_in = SignIn(ana, key)
    assert sign_in.holds()

    with CaptureQueriesContext(connection) as queries:
        assert sign_in.holds()
    assert len(queries) == 1


def test_changed_session_is_looked_at_in_full(ana: User, key: str) -> None:
    sign_in = SignIn(ana, key)
    assert sign_in.holds()
    session = SessionStore(key)
    session["theme"] = "dark"
    session.save()
    assert sign_in.holds()

    session[SESSION_KEY] = str(ana.pk + 1)
    session.save()
    assert not sign_in.holds()
    assert not sign_in.holds()


def test_sign_in_without_a_session_is_the_accounts(ana: User) -> None:
    sign_in = SignIn(ana, None)
    assert sign_in.holds()

    User.objects.update(is_active=False)
    assert not sign_in.holds()


def test_sessions_of_another_store_are_looked_at(ana: User, key: str) -> None:
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache"):
        assert not SignIn(ana, key).holds()
