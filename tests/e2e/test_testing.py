"""The testing helpers in a fresh project, run by Django's runner and by pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.project import add_settings, make_project

pytestmark = pytest.mark.e2e

ASGI = """
import os
from django.core.asgi import get_asgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()

from channels.db import database_sync_to_async
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.contrib.auth.models import User

class Users(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        User.objects.create(username=text_data)
        self.send(str(User.objects.count()))

application = ProtocolTypeRouter({"http": http, "websocket": Users.as_asgi()})
"""

TESTS = """
import httpx
from concurrent.futures import ThreadPoolExecutor
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase
from djserve.testing.testcases import {base}
from websockets.sync.client import connect

class LiveTests({base}):
    def test_database_is_in_memory(self):
        self.assertTrue(connection.is_in_memory_db())

    def test_websocket_shares_the_database(self):
        User.objects.create(username="anna")
        with connect(self.live_server_ws_url, open_timeout=120) as websocket:
            websocket.send("ben")
            self.assertEqual(websocket.recv(timeout=120), "2")
        self.assertEqual(User.objects.count(), 2)

    def test_log_in(self):
        User.objects.create_superuser("anna", password="secret-anna")
        with httpx.Client(base_url=self.live_server_url, timeout=120) as client:
            client.get("/admin/login/")
            form = {{
                "username": "anna",
                "password": "secret-anna",
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
            }}
            response = client.post("/admin/login/?next=/admin/", data=form)
            self.assertEqual(response.status_code, 302)
            self.assertContainsUser(client.get("/admin/"))

    def assertContainsUser(self, page):
        self.assertIn("anna", page.text)

    def test_requests_at_the_same_time(self):
        with ThreadPoolExecutor(8) as pool:
            url = f"{{self.live_server_url}}/admin/login/"
            pages = pool.map(lambda _: httpx.get(url, timeout=120), range(24))
            self.assertEqual({{page.status_code for page in pages}}, {{200}})

    def test_static_files(self):
        url = f"{{self.live_server_url}}/static/admin/css/base.css"
        style = httpx.get(url, timeout=120)
        self.assertEqual(style.headers["content-type"], "text/css")

class OtherTests(TestCase):
    def test_database_is_as_it_was(self):
        self.assertEqual(User.objects.count(), 0)
"""

PYTEST = """
import httpx
from django.contrib.auth.models import User
from websockets.sync.client import connect

def test_http(djserve_live_server):
    url = f"{djserve_live_server.url}/admin/login/"
    assert httpx.get(url, timeout=120).status_code == 200

def test_websocket(djserve_live_server):
    with connect(djserve_live_server.ws_url, open_timeout=120) as websocket:
        websocket.send("ben")
        assert websocket.recv(timeout=120) == "1"
    assert User.objects.get().username == "ben"
"""

WITHOUT_DAPHNE = """
import sys
sys.modules["daphne"] = None
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project with Channels and djserve among its apps."""
    folder = make_project(tmp_path / "project")
    (folder / "mysite" / "asgi.py").write_text(ASGI)
    add_settings(
        folder,
        'INSTALLED_APPS = ["djserve", "channels", *INSTALLED_APPS]',
        'ASGI_APPLICATION = "mysite.asgi.application"',
        'PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]',
        WITHOUT_DAPHNE,
    )
    return folder


def run(project: Path, *command: str) -> str:
    """Run a command with warnings as errors; return its output."""
    result = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize(
    "base", ["DjserveLiveServerTestCase", "ChannelsLiveServerTestCase"]
)
def test_test_case_runs_under_djangos_runner(base: str, project: Path) -> None:
    (project / "mysite" / "tests.py").write_text(TESTS.format(base=base))
    output = run(project, "-W", "error::ResourceWarning", "manage.py", "test", "mysite")

    assert "Ran 6 tests" in output
    assert "ResourceWarning" not in output


def test_fixture_works_with_pytest_django(project: Path) -> None:
    (project / "test_live.py").write_text(PYTEST)
    output = run(project, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")

    assert "2 passed" in output


def test_plugin_is_harmless_without_django(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test_django_is_not_imported():\n"
        "    assert 'django.conf' not in sys.modules\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ("-p", "no:django", "-p", "no:cacheprovider")
    output = run(tmp_path, "-m", "pytest", "-q", *options)

    assert "1 passed" in output
