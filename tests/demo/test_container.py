"""The demo in its container's configuration: the image's environment and its command.

There is no container engine here; what the image sets and starts is read from its file
and run as it is, so that neither can say something else than what is tested.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import find_free_port

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", "")
HOST = "chat.example.com"

pytestmark = pytest.mark.e2e


def find_words(instruction: str) -> list[str]:
    """Return the list that an instruction of the Dockerfile has in exec form."""
    words: list[str] = json.loads(
        re.findall(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.M)[-1]
    )
    return words


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The image's environment, its directories on this machine."""
    pairs = re.findall(r"^ENV (.*)$", DOCKERFILE, re.M)
    image = dict(pair.split("=", 1) for line in pairs for pair in line.split())
    clean = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    folders = {name: path for name, path in image.items() if path.startswith("/")}
    for name, path in folders.items():
        folder = tmp_path / path.lstrip("/")
        folder.mkdir(parents=True)
        image[name] = str(folder)
    return {**clean, **image}


@pytest.fixture
def given(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """That, and what whoever runs the image has to give."""
    key = tmp_path / "secret_key"
    key.write_text("k9!" + "".join(chr(97 + i % 26) for i in range(60)) + "Z#\n")
    return {**environment, "ALLOWED_HOSTS": HOST, "SECRET_KEY_FILE": str(key)}


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("missing", ["SECRET_KEY_FILE", "ALLOWED_HOSTS"])
def test_image_does_not_start_without(missing: str, given: dict[str, str]) -> None:
    del given[missing]
    words = [*find_words("ENTRYPOINT")[1:], *find_words("CMD")]
    result = run(given, *words)

    assert result.returncode != 0
    assert f"{missing.removesuffix('_FILE')} must be set" in result.stderr
    assert "Listening" not in result.stderr


def test_deployment_checks_are_clean(given: dict[str, str]) -> None:
    env = {**given, "REDIS_URL": "redis://127.0.0.1:6379/0"}
    result = run(env, "manage.py", "check", "--deploy", "--fail-level=WARNING")

    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout + result.stderr


def test_sample_people_are_not_made_unasked(given: dict[str, str]) -> None:
    result = run(given, "manage.py", "demo_setup")

    assert result.returncode != 0
    assert "--force" in result.stderr


def test_stranger_gets_nothing_and_a_proxy_all(
    given: dict[str, str], start_server: Callable[..., Any], free_port: int
) -> None:
    run(given, "manage.py", "migrate", "--no-input")
    run(given, "manage.py", "collectstatic", "--no-input")
    entry, command = find_words("ENTRYPOINT")[1:], find_words("CMD")
    command = [
        word.replace("0.0.0.0:8000", f"127.0.0.1:{free_port}") for word in command
    ]
    at = command.index("--metrics-bind")
    command[at : at + 2] = ["--workers", "1", "--proxy-headers"]
    server = start_server(*entry, *command, port=free_port, env=given)
    secure = {"X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for host in ("localhost", "127.0.0.1", "evil.example"):
            for path in ("/", "/admin/login/", "/accounts/login/"):
                answer = client.get(path, headers={"Host": host, **secure})
                assert answer.status_code == 400
                assert "Parley" not in answer.text
                assert "DEBUG" not in answer.text
        plain = client.get("/", headers={"Host": HOST})
        page = client.get("/accounts/login/", headers={"Host": HOST, **secure})
        style = client.get(
            "/static/demo/css/site.css", headers={"Host": HOST, **secure}
        )

    assert plain.headers["Location"] == f"https://{HOST}/"
    assert page.status_code == 200
    assert "Secure" in page.headers["Set-Cookie"]
    assert style.status_code == 200


def test_health_check_tells_whether_it_serves(
    given: dict[str, str], start_server: Callable[..., Any], free_port: int
) -> None:
    (found,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.M)
    python, *words = json.loads(found)
    metrics = find_free_port()
    words = [word.replace(":9001/", f":{metrics}/") for word in words]
    assert python == "python"
    assert run(given, *words).returncode != 0
    command = ["manage.py", "runasgi", f"127.0.0.1:{free_port}"]
    command += ["--metrics-bind", f"127.0.0.1:{metrics}", "--workers", "2"]
    server = start_server(*command, port=free_port, env=given)
    server.wait_for("Supervisor")

    assert run(given, *words).returncode == 0


def test_developers_data_stays_out_of_the_image() -> None:
    """By the one file that every builder reads, Podman and older Docker included."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert {".git", ".venv*", "demo_project/var"} <= set(ignored)
    # A builder that knows of it reads it alone.
    assert not (DEPLOY / "docker" / "Dockerfile.dockerignore").exists()


def read_yaml(*path: str) -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(DEPLOY.joinpath(*path).read_text()))


def test_compose_gives_secrets_as_files_and_asks_for_the_host() -> None:
    (compose,) = read_yaml("docker", "compose.yaml")
    services = compose["services"]
    env = services["parley"]["environment"]

    assert "DEBUG" not in env
    assert env["ALLOWED_HOSTS"].startswith("${ALLOWED_HOSTS:?")
    for name in ("SECRET_KEY_FILE", "DATABASE_PASSWORD_FILE"):
        assert Path(env[name]).name in compose["secrets"]
    assert "DATABASE_URL" in env
    assert "REDIS_URL" in env
    assert [name for name in services if "demo_setup" in str(services[name])] == [
        "samples"
    ]
    assert services["samples"]["profiles"] == ["samples"]
    assert "--proxy-headers" in services["parley"]["command"]


def test_replicas_share_a_database_and_redis_and_read_secrets_from_files() -> None:
    resources = read_yaml("kubernetes", "parley.yaml")
    by_kind = {(each["kind"], each["metadata"]["name"]): each for each in resources}
    data = by_kind["ConfigMap", "parley"]["data"]
    pod = by_kind["Deployment", "parley"]["spec"]["template"]["spec"]
    mounts = {
        each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]
    }
    secrets = [each["name"] for each in pod["volumes"] if "secret" in each]

    assert by_kind["Deployment", "parley"]["spec"]["replicas"] == 2
    assert "@postgres/" in data["DATABASE_URL"]
    assert data["REDIS_URL"].startswith("redis://redis:")
    assert ("Service", "postgres") in by_kind
    assert ("Service", "redis") in by_kind
    assert "DEBUG" not in data
    for name in ("SECRET_KEY_FILE", "DATABASE_PASSWORD_FILE"):
        assert mounts[str(Path(data[name]).parent)] in secrets
    assert not {"SECRET_KEY", "DATABASE_PASSWORD"} & set(data)
