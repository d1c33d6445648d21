"""Signing up."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

GOOD = {"password1": "a-long-enough-one", "password2": "a-long-enough-one"}


def test_sign_up_makes_an_account_and_signs_in() -> None:
    client = Client()
    response = client.post("/accounts/sign-up/", {"username": "Zoe", **GOOD})

    assert response.status_code == 302
    assert User.objects.get().username == "zoe"
    assert b"Good to see you, zoe" in client.get("/").content


@pytest.mark.parametrize("name", ["ANA", "a b", "zoë", "-zoe", "x" * 31, "a@b"])
def test_name_that_a_mention_would_not_find_is_refused(ana: User, name: str) -> None:
    response = Client().post("/accounts/sign-up/", {"username": name, **GOOD})

    assert response.status_code == 200
    assert list(User.objects.all()) == [ana]
