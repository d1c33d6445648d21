"""The project as a whole: checks, migrations, the deployment settings."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

ROOT = Path(__file__).resolve().parents[2]


def manage(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *args],
        cwd=ROOT,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.e2e
def test_deployment_checks_are_clean_with_the_documented_environment(
    tmp_path: Path,
) -> None:
    result = manage(
        "check",
        "--deploy",
        "--fail-level=WARNING",
        DEBUG="0",
        SECRET_KEY="k9!" + "".join(chr(97 + i % 26) for i in range(60)) + "Z#",
        ALLOWED_HOSTS="chat.example.com",
        DEMO_DATA_DIR=str(tmp_path),
        REDIS_URL="redis://127.0.0.1:6379/0",
    )

    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout + result.stderr


@pytest.mark.e2e
def test_start_without_debug_demands_a_secret_key(tmp_path: Path) -> None:
    result = manage("check", DEBUG="0", DEMO_DATA_DIR=str(tmp_path))

    assert result.returncode != 0
    assert "SECRET_KEY must be set" in result.stderr


def test_several_workers_and_an_external_one_need_no_redis(tmp_path: Path) -> None:
    result = manage("check", DEMO_INPROCESS_WORKER="0", DEMO_DATA_DIR=str(tmp_path))

    assert result.returncode == 0, result.stderr


def test_models_have_their_migrations() -> None:
    call_command("makemigrations", "--check", "--dry-run", stdout=StringIO())


@pytest.mark.parametrize("path", ["/", "/accounts/login/", "/accounts/sign-up/"])
def test_pages_allow_nothing_inline_or_from_elsewhere(path: str) -> None:
    response = Client().get(path)

    policy = response["Content-Security-Policy"]
    assert "default-src 'self';" in policy
    assert "unsafe" not in policy
    assert b"style=" not in response.content
    assert b"onclick=" not in response.content
