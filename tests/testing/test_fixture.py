"""A project's server as a context manager."""

from __future__ import annotations

import httpx
import pytest
from django.conf import settings
from django.test import override_settings

from djserve.errors import ConfigError
from djserve.testing.fixture import serve_project

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


def test_project_is_served_under_an_allowed_name() -> None:
    with serve_project() as server:
        assert "localhost" in settings.ALLOWED_HOSTS
        assert httpx.get(f"{server.url}/accounts/login/", timeout=60).status_code == 200

    assert server.ws_url == f"ws://localhost:{server.port}"
    assert "localhost" not in settings.ALLOWED_HOSTS


@override_settings(DJSERVE={"NO_SUCH_KEY": 1})
def test_reason_for_not_starting_is_raised() -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"), serve_project():
        pass
