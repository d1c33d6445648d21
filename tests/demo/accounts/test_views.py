"""Signing up."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import get_default_password_validators
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from django.utils.html import escape

from demo_project.accounts.models import FailedSignIn, SignUp
from demo_project.accounts.throttle import (
    LIMIT_OF_ADDRESS,
    LIMIT_OF_BOTH,
    LIMIT_OF_SIGN_UPS,
    SIGN_UP_WINDOW,
    WINDOW,
    SignInGate,
)

GOOD = {"password1": "a-long-enough-one", "password2": "a-long-enough-one"}


def test_sign_up_makes_an_account_and_signs_in() -> None:
    client = Client()
    response = client.post("/accounts/sign-up/", {"username": "Zoe", **GOOD})

    assert response.status_code == 302
    assert User.objects.get().username == "zoe"
    assert b"Good to see you, zoe" in client.get("/").content


def test_sign_up_shows_the_rules_for_a_password() -> None:
    page = Client().get("/accounts/sign-up/").content.decode()

    for validator in get_default_password_validators():
        assert escape(validator.get_help_text()) in page
    assert 'aria-describedby="id_password1_helptext"' in page
    assert 'id="id_password1_helptext"' in page


def sign_up(name: str, address: str = "192.0.2.1", **fields: str) -> Any:
    data = {"username": name, **GOOD, **fields}
    return Client().post("/accounts/sign-up/", data, REMOTE_ADDR=address)


def test_one_address_makes_no_endless_list_of_accounts() -> None:
    now = timezone.now()
    SignUp.objects.bulk_create(
        SignUp(address="192.0.2.1", made_at=now) for _ in range(LIMIT_OF_SIGN_UPS - 1)
    )
    # What makes no account does not count.
    assert sign_up("zoe", password2="another").status_code == 200
    assert sign_up("zoe").status_code == 302
    refused = sign_up("yan")

    assert refused.status_code == 429
    assert refused["Retry-After"] == "3600"
    assert b"Too many accounts" in refused.content
    assert "sessionid" not in refused.cookies
    assert sign_up("yan", address="192.0.2.2").status_code == 302
    SignUp.objects.update(made_at=F("made_at") - SIGN_UP_WINDOW)
    assert sign_up("xia").status_code == 302
    assert {user.username for user in User.objects.all()} == {"zoe", "yan", "xia"}


def sign_in(
    name: str = "ana",
    password: str = "wrong",
    address: str = "192.0.2.1",
    path: str = "/accounts/login/",
) -> HttpResponse:
    data = {"username": name, "password": password}
    return Client().post(path, data, REMOTE_ADDR=address)  # type: ignore[return-value]


@pytest.fixture
def account() -> User:
    return User.objects.create_superuser("ana", password="the-right-one")


@pytest.mark.parametrize("path", ["/accounts/login/", "/admin/login/"])
@pytest.mark.parametrize("name", ["ana", "nobody"])
def test_guessing_is_refused_after_some_tries(
    account: User, name: str, path: str
) -> None:
    for _ in range(LIMIT_OF_BOTH - 1):
        assert b"Too many tries" not in sign_in(name, path=path).content
    sign_in(name, path=path)
    refused = sign_in(name, "the-right-one", path=path)

    assert b"Too many tries" in refused.content
    assert "sessionid" not in refused.cookies
    # The other way in counts the same tries.
    assert sign_in(name, "the-right-one").status_code == 429


def test_refusal_says_when_to_come_back(account: User) -> None:
    for _ in range(LIMIT_OF_BOTH):
        sign_in()
    assert sign_in()["Retry-After"] == "300"

    FailedSignIn.objects.update(failed_at=F("failed_at") - WINDOW)
    assert sign_in(password="the-right-one").status_code == 302


def test_others_sign_in_while_somebody_guesses(account: User) -> None:
    User.objects.create_user("ben", password="the-right-one")
    for _ in range(LIMIT_OF_BOTH):
        sign_in()

    assert sign_in("ben", "the-right-one").status_code == 302
    assert sign_in("ana", "the-right-one", address="192.0.2.2").status_code == 302


def test_one_address_tries_no_endless_list_of_names(account: User) -> None:
    for number in range(LIMIT_OF_ADDRESS):
        sign_in(f"name-{number}")

    assert sign_in("ana", "the-right-one").status_code == 429


def test_right_password_ends_the_counting(account: User) -> None:
    for _ in range(3):
        for _ in range(LIMIT_OF_BOTH - 1):
            sign_in()
        assert sign_in("ana", "the-right-one").status_code == 302


def test_tries_that_are_still_being_checked_count(account: User) -> None:
    """Else as many as there are threads would get through at the same moment."""
    request = RequestFactory().post("/accounts/login/")
    for _ in range(LIMIT_OF_BOTH):
        SignInGate().authenticate(request, "ana")

    with pytest.raises(PermissionDenied):
        SignInGate().authenticate(request, "ana")
    assert FailedSignIn.objects.count() == LIMIT_OF_BOTH


@pytest.mark.parametrize("name", ["ANA", "a b", "zoë", "-zoe", "x" * 31, "a@b"])
def test_name_that_a_mention_would_not_find_is_refused(ana: User, name: str) -> None:
    response = Client().post("/accounts/sign-up/", {"username": name, **GOOD})

    assert response.status_code == 200
    assert list(User.objects.all()) == [ana]
