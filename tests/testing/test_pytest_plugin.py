"""The fixture, as pytest finds it."""

from __future__ import annotations

import httpx
import pytest
from django.contrib.auth.models import User

from djserve.testing import pytest_plugin
from djserve.testing.fixture import ProjectServer

pytestmark = pytest.mark.e2e


def test_plugin_is_registered(pytestconfig: pytest.Config) -> None:
    plugin = pytestconfig.pluginmanager.get_plugin("djserve")

    assert plugin is pytest_plugin


def test_fixture_serves_the_project_with_its_database(
    djserve_live_server: ProjectServer,
) -> None:
    User.objects.create_user("anna", password="secret-anna")
    with httpx.Client(base_url=djserve_live_server.url, timeout=60) as client:
        client.get("/accounts/login/")
        form = {
            "username": "anna",
            "password": "secret-anna",
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
        }
        response = client.post("/accounts/login/", data=form)

    assert response.status_code == 302
    assert "sessionid" in client.cookies
