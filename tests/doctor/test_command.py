"""``python -m djserve.doctor`` and ``manage.py djserve doctor``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from djserve.doctor.command import main

MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


def make_project(folder: Path, settings: str) -> None:
    (folder / "manage.py").write_text(MANAGE)
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "settings.py").write_text(settings)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    environ = {**os.environ}
    environ.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True
    )


def test_command_line_is_translated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests", "--from", "daphne -v 0 a:b"]) == 0
    command = "python manage.py runasgi --verbosity 0"
    assert capsys.readouterr().out.splitlines()[0] == command


def test_unknown_server_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests", "--from", "nginx"]) == 2
    assert "daphne, uvicorn, gunicorn" in capsys.readouterr().err


@pytest.mark.e2e
def test_project_without_djserve(tmp_path: Path) -> None:
    middleware = "django.contrib.auth.middleware.AuthenticationMiddleware"
    make_project(
        tmp_path,
        "SECRET_KEY = 'x'\n"
        "INSTALLED_APPS = ['django.contrib.auth', 'django.contrib.contenttypes']\n"
        f"MIDDLEWARE = ['{middleware}']\n",
    )
    result = run(tmp_path, "-m", "djserve.doctor")

    assert result.returncode == 0, result.stderr
    assert 'INSTALLED_APPS: Put "djserve" first.' in result.stdout
    assert "cannot be imported" not in result.stdout


@pytest.mark.e2e
@pytest.mark.parametrize("settings", ["import nope", "x = (", "raise SystemExit(1)"])
def test_settings_that_fail_are_named(tmp_path: Path, settings: str) -> None:
    make_project(tmp_path, settings)
    result = run(tmp_path, "-m", "djserve.doctor")

    assert result.returncode == 0, result.stderr
    assert "- shop.settings: " in result.stdout


@pytest.mark.e2e
def test_project_in_a_folder_below_is_read_with_its_settings(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    make_project(tmp_path / "src", "SECRET_KEY = 'x'\nINSTALLED_APPS = []\n")
    (tmp_path / "Procfile").write_text("web: gunicorn --chdir src shop.wsgi\n")
    above = run(tmp_path, "-m", "djserve.doctor")
    line = run(tmp_path, "-m", "djserve.doctor", "--from", "gunicorn shop.wsgi")
    below = run(tmp_path / "src", "-m", "djserve.doctor")

    assert above.returncode == 0, above.stderr
    assert "cd src && python manage.py runasgi" in above.stdout
    assert 'INSTALLED_APPS: Put "djserve" first.' in above.stdout
    assert line.stdout.startswith("python src/manage.py runasgi")
    assert 'INSTALLED_APPS: Put "djserve" first.' in below.stdout
    assert "Procfile is there: python -m djserve.doctor .." in below.stdout


@pytest.mark.e2e
def test_one_of_several_projects_is_to_be_named(tmp_path: Path) -> None:
    for name in ("api", "site"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manage.py").write_text(MANAGE)
    result = run(tmp_path, "-m", "djserve.doctor")

    assert result.returncode == 0, result.stderr
    assert "manage.py in api, site: " in result.stdout


@pytest.mark.e2e
def test_management_command(tmp_path: Path) -> None:
    make_project(tmp_path, "SECRET_KEY = 'x'\nINSTALLED_APPS = ['djserve']\n")
    report = run(tmp_path, "manage.py", "djserve", "doctor")
    line = ["doctor", "--from", "gunicorn -w 3 shop.wsgi"]
    translation = run(tmp_path, "manage.py", "djserve", *line)
    error = run(tmp_path, "manage.py", "djserve", "doctor", "--from", "ls")

    assert "ASGI_APPLICATION: Set it" in report.stdout, report.stderr
    assert translation.stdout.startswith(
        "python manage.py runasgi --workers 3 --proxy-headers\n"
    )
    assert error.returncode == 2
    assert "no command of a server" in error.stderr


@pytest.mark.e2e
def test_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "djserve.doctor", str(tmp_path)]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)

    assert (result.returncode, result.stderr) == (0, "")
