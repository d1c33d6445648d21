"""An access log of one's own format, with what only Django knows of a request."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.project import add_settings, make_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.e2e

ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}

VIEWS = """
from django.contrib.auth.models import User
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path


def with_user(get_response):
    def middleware(request):
        request.user = User(pk=7, username='a"da')
        return get_response(request)

    return middleware


def hello(request):
    return HttpResponse(b"hello", headers={"X-Cache": "miss"})


async def asynchronous(request):
    return HttpResponse(b"hello", headers={"X-Cache": "hit"})


def stream(request):
    return StreamingHttpResponse([b"a", b"b"], headers={"X-Cache": "none"})


urlpatterns = [
    path("hello/", hello, name="hello"),
    path("async/", asynchronous, name="async"),
    path("stream/", stream),
    path("healthz", hello),
]
"""

FORMAT = '%m %U %>s %b view={view} user=%u id={user_id} "%{X-Cache}o" "%{x-a}i"'

LINES = [
    'GET /hello/ 200 5 view=hello user=a\\"da id=7 "miss" "-"',
    'GET /async/ 200 5 view=async user=a\\"da id=7 "hit" "b"',
    'GET /stream/ 200 2 view=mysite.views.stream user=a\\"da id=7 "none" "-"',
    'GET /none/ 404 179 view=- user=a\\"da id=7 "-" "-"',
    'GET /static/a.txt 200 4 view=- user=- id=- "-" "-"',
    'GET /hello/ 200 5 view=hello user=a\\"da id=7 "miss" "-"',
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project whose requests have a user."""
    folder = make_project(tmp_path / "project")
    (folder / "mysite" / "views.py").write_text(VIEWS)
    files = folder / "files"
    files.mkdir()
    (files / "a.txt").write_text("text")
    add_settings(
        folder,
        'INSTALLED_APPS.insert(0, "djserve")',
        'ROOT_URLCONF = "mysite.views"',
        "DEBUG = False",
        'ALLOWED_HOSTS = ["*"]',
        f'DJSERVE = {{"FILES": {{"/static/": {str(files)!r}}}, "STATIC": "off"}}',
    )
    # Last: AuthenticationMiddleware replaces what stands before it.
    add_settings(folder, 'MIDDLEWARE.append("mysite.views.with_user")')
    return folder


@pytest.mark.parametrize("handler", ["djserve", "django"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_lines_have_view_user_and_fields(
    handler: str,
    workers: str,
    project: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> None:
    log = project / "access.log"
    arguments = [
        *("manage.py", "runasgi", str(free_port), "--handler", handler),
        *("--workers", workers, "--access-log", str(log)),
        *("--access-log-format", FORMAT, "--access-log-skip", "/healthz"),
    ]
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    for path, fields in [
        ("hello/", {}),
        ("async/", {"X-A": "b"}),
        ("stream/", {}),
        ("none/", {}),
        ("healthz", {}),
        ("static/a.txt", {}),
        ("hello/", {}),
    ]:
        httpx.get(f"{server.url}/{path}", headers=fields, timeout=120)
    code = server.stop()

    assert code == 0
    lines = log.read_text().splitlines()
    # Several workers write their lines together.
    assert sorted(lines) == sorted(LINES)


def test_wrong_atom_stops_the_start(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "runasgi", "--access-log-format", "%h {veiw}"],
        cwd=project,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 2
    assert "unknown atom '{veiw}'; did you mean 'view'?" in done.stderr
    assert "Traceback" not in done.stderr
