"""docs/guides/platforms/: the files of each page, started as the platform does it.

What a platform itself would do stands here: the variables that it sets, and what its
router sends. Everything else is read from the pages. Put on: a database in a file, free
ports, and a drain of a second.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from djserve.conf import platforms as conf
from djserve.conf.environment import read_environment, read_platform
from djserve.conf.parser import parse
from djserve.conf.platforms import CONTAINER, describe_misfits, find_platform
from tests.conftest import find_free_port, find_package
from tests.docs.pages import read_blocks, read_files
from tests.e2e.project import add_settings, make_project

pytestmark = pytest.mark.e2e

# The guides' settings import it.
find_package("dj_database_url")

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
PAGES = GUIDES / "platforms"
CLIENT, CLAIM = "198.51.100.9", "203.0.113.66"
KEY = "k9-" + "abcdefghijklmnopqrstuvwxyz" * 3

VIEWS = """
import asyncio

from django.http import HttpResponse, StreamingHttpResponse


async def events(request):
    async def parts():
        yield b"data: first\\n\\n"
        await asyncio.Event().wait()

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


def whoami(request):
    client = request.META["REMOTE_ADDR"]
    return HttpResponse(f"{client} {request.scheme} {request.get_host()}")


urlpatterns += [path("events/", events), path("whoami/", whoami)]
"""

# Run in place of the platforms' programs; each line of the record is one command.
TOOLS = """
for tool in heroku dokku fly railway gcloud kubectl git; do
    eval "$tool() { printf '%q ' $tool \\"\\$@\\"; echo; }"
done
openssl() { echo "$KEY"; }
"""


@dataclass(frozen=True)
class Deployment:
    """What a page gives a platform: two commands, and variables."""

    start: str
    release: str
    environ: Mapping[str, str]


def read_commands(page: str) -> list[list[str]]:
    """Return the platform's own commands of a page, as words."""
    script = "\n".join(read_blocks(PAGES / page, "sh"))
    done = subprocess.run(
        ["bash", "-euc", TOOLS + script],
        env={"PATH": os.environ["PATH"], "KEY": KEY},
        capture_output=True,
        text=True,
        check=True,
    )
    return [shlex.split(line) for line in done.stdout.splitlines()]


def read_assignments(page: str, *command: str) -> dict[str, str]:
    """Return the variables that a command of the page sets."""
    (words,) = (
        words for words in read_commands(page) if (*words[: len(command)],) == command
    )
    pairs = [word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word)]
    return dict(pairs)


def read_procfile(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+): (.+)$", text, re.M))


def read_image() -> tuple[str, dict[str, str]]:
    """Return the command of the image that the guides build, and its variables."""
    text = read_files(PAGES / "docker.md")["Dockerfile"].replace("\\\n", "")
    (command,) = re.findall(r"^CMD (.*)$", text, re.M)
    pairs = " ".join(re.findall(r"^ENV (.*)$", text, re.M)).split()
    return shlex.join(json.loads(command)), dict(pair.split("=", 1) for pair in pairs)


def with_values(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Return variables of a list in YAML; those with a secret's value are given."""
    keys = ("name", "key")
    return {
        next(entry[key] for key in keys if key in entry): entry["value"]
        for entry in entries
        if "value" in entry
    }


def read_heroku() -> Deployment:
    procfile = read_procfile(read_files(PAGES / "heroku.md")["Procfile"])
    environ = read_assignments("heroku.md", "heroku", "config:set")
    return Deployment(procfile["web"], procfile["release"], environ)


def read_dokku() -> Deployment:
    files = read_files(PAGES / "dokku.md")
    (check,) = json.loads(files["app.json"])["healthchecks"]["web"]
    assert check["path"] == "/readyz"
    procfile = read_procfile(files["Procfile"])
    environ = read_assignments("dokku.md", "dokku", "config:set")
    grace = environ["DJSERVE_PLATFORM_GRACE"]
    stop = ["dokku", "ps:set", "mysite", "stop-timeout-seconds", grace]
    assert stop in read_commands("dokku.md")
    return Deployment(procfile["web"], procfile["release"], environ)


def read_fly() -> Deployment:
    config = tomllib.loads(read_files(PAGES / "fly.md")["fly.toml"])
    command, image = read_image()
    secrets = read_assignments("fly.md", "fly", "secrets", "set")
    environ = image | config["env"] | secrets
    service = config["http_service"]
    assert service["internal_port"] == int(environ["PORT"])
    assert [check["path"] for check in service["checks"]] == ["/readyz"]
    assert config["kill_timeout"] == int(environ["DJSERVE_PLATFORM_GRACE"])
    assert config["metrics"]["port"] == 9001
    assert config["build"]["dockerfile"] == "Dockerfile"
    return Deployment(command, config["deploy"]["release_command"], environ)


def read_render() -> Deployment:
    blueprint = yaml.safe_load(read_files(PAGES / "render.md")["render.yaml"])
    (service,), (database,) = blueprint["services"], blueprint["databases"]
    environ = with_values(service["envVars"])
    assert service["healthCheckPath"] == "/readyz"
    grace = str(service["maxShutdownDelaySeconds"])
    assert environ["DJSERVE_PLATFORM_GRACE"] == grace
    asked = [entry for entry in service["envVars"] if "fromDatabase" in entry]
    assert [entry["fromDatabase"]["name"] for entry in asked] == [database["name"]]
    return Deployment(service["startCommand"], service["preDeployCommand"], environ)


def read_railway() -> Deployment:
    deploy = json.loads(read_files(PAGES / "railway.md")["railway.json"])["deploy"]
    environ = read_assignments("railway.md", "railway", "variables")
    assert deploy["healthcheckPath"] == "/readyz"
    # A text is refused there, whatever its reference says.
    assert deploy["drainingSeconds"] == int(environ["DJSERVE_PLATFORM_GRACE"])
    (release,) = deploy["preDeployCommand"]
    return Deployment(deploy["startCommand"], release, environ)


def read_cloud_run() -> Deployment:
    service = yaml.safe_load(read_files(PAGES / "cloud-run.md")["service.yaml"])
    (container,) = service["spec"]["template"]["spec"]["containers"]
    command, image = read_image()
    environ = image | with_values(container["env"])
    environ["PORT"] = str(container["ports"][0]["containerPort"])
    (job,) = (
        words
        for words in read_commands("cloud-run.md")
        if words[1:3] == ["run", "jobs"]
    )
    options = dict(pairwise(job))
    words = [options["--command"], *options["--args"].split(",")]
    return Deployment(command, shlex.join(words), environ)


def read_compose() -> Deployment:
    compose = yaml.safe_load(read_files(PAGES / "docker.md")["compose.yaml"])
    services = compose["services"]
    command, image = read_image()
    values = {"SECRET_KEY": KEY, "HOST": "mysite.example.com"}
    given = {
        name: re.sub(r"\$\{(\w+):\?\}", lambda match: values.get(match[1], ""), text)
        for name, text in services["web"]["environment"].items()
    }
    return Deployment(command, services["migrate"]["command"], image | given)


def read_kubernetes() -> Deployment:
    text = read_files(PAGES / "kubernetes.md")["mysite.yaml"]
    resources = {each["kind"]: each for each in yaml.safe_load_all(text)}
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    (container,), (migrate,) = pod["containers"], pod["initContainers"]
    command, image = read_image()
    environ = image | with_values(container["env"])
    assert migrate["env"] == container["env"]
    return Deployment(command, shlex.join(migrate["command"]), environ)


@dataclass(frozen=True)
class Platform:
    """How a page is read; what the platform sets, and what its router adds."""

    read: Callable[[], Deployment]
    sets: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)


APPENDED = {"X-Forwarded-For": f"{CLAIM}, {CLIENT}"}
PLATFORMS = {
    "heroku": Platform(
        read_heroku,
        {"DYNO": "web.1", "PORT": "5005", "WEB_CONCURRENCY": "2"},
        {**APPENDED, "X-Forwarded-Port": "443", "Via": "1.1 heroku-router"},
    ),
    "fly": Platform(
        read_fly,
        {"FLY_APP_NAME": "mysite"},
        {
            "Fly-Client-IP": CLIENT,
            "X-Forwarded-For": f"{CLAIM}, {CLIENT}, 66.241.124.10",
            "X-Forwarded-Port": "443",
        },
    ),
    "render": Platform(
        read_render,
        {"RENDER": "true", "PORT": "10000", "SECRET_KEY": KEY},
        {
            "CF-Connecting-IP": CLIENT,
            "X-Forwarded-For": f"{CLAIM}, {CLIENT}, 104.22.17.40",
        },
    ),
    "railway": Platform(
        read_railway,
        {"RAILWAY_ENVIRONMENT_NAME": "production", "PORT": "8080"},
        {"X-Real-IP": CLIENT, **APPENDED, "X-Forwarded-Host": "{host}"},
    ),
    "cloud-run": Platform(
        read_cloud_run, {"K_SERVICE": "mysite", "SECRET_KEY": KEY}, APPENDED
    ),
    "dokku": Platform(
        read_dokku,
        {"DOKKU_APP_TYPE": "herokuish", "DYNO": "web.1", "PORT": "5000"},
        {"X-Forwarded-For": CLIENT, "X-Forwarded-Port": "443"},
    ),
    "docker": Platform(
        read_compose, {}, {"X-Forwarded-For": CLIENT, "X-Forwarded-Host": "{host}"}
    ),
    "kubernetes": Platform(
        read_kubernetes,
        {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "SECRET_KEY": KEY},
        {
            "X-Forwarded-For": CLIENT,
            "X-Forwarded-Host": "{host}",
            "X-Forwarded-Port": "443",
            "X-Real-IP": CLIENT,
        },
    ),
}

every_platform = pytest.mark.parametrize("name", PLATFORMS)


@cache
def read_environ(name: str) -> dict[str, str]:
    """Return all that the server finds in its environment on a platform."""
    platform = PLATFORMS[name]
    return {**platform.read().environ, **platform.sets}


def find_misfits(environ: Mapping[str, str], platform: conf.Platform) -> list[str]:
    """Return what the server says of an environment when it starts."""
    given = read_environment(environ)
    config = parse(given | read_platform(environ, given))
    groups = config.lifecycle, config.http, config.proxy
    return describe_misfits(*groups, platform, environ, has_tls=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of the guides, with its static files collected and two views."""
    folder = make_project(tmp_path_factory.mktemp("site") / "mysite")
    for path, text in read_files(GUIDES / "platforms.md").items():
        (folder / path).write_text(text)
    with (folder / "mysite" / "urls.py").open("a") as file:
        file.write(VIEWS)
    environ = {
        "DJANGO_SETTINGS_MODULE": "mysite.production",
        "SECRET_KEY": KEY,
        "ALLOWED_HOSTS": "unused",
    }
    run("python manage.py collectstatic --no-input", folder, environ)
    return folder


def find_words(command: str) -> list[str]:
    program, *words = shlex.split(command)
    assert program == "python"
    return words


def run(command: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Run a command of a page to its end, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *find_words(command)],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_page_is_tested() -> None:
    # tests/e2e/test_vps.py has the other.
    pages = {page.stem for page in PAGES.glob("*.md")} - {"vps"}

    assert pages == set(PLATFORMS)
    overview = (GUIDES / "platforms.md").read_text("utf-8")
    assert [page for page in pages if f"](platforms/{page}.md)" not in overview] == []


@every_platform
def test_settings_of_the_page_fit_the_platform(name: str) -> None:
    environ = read_environ(name)
    platform = CONTAINER if name == "docker" else find_platform(environ)

    assert platform is not None
    assert platform.name.lower().partition(".")[0].replace(" ", "-") == name
    assert find_misfits(environ, platform) == []
    bare = {key: environ[key] for key in environ if not key.startswith("DJSERVE_")}
    # Without the page's settings there is something to say of each.
    assert len(find_misfits(bare, platform)) == 1


@every_platform
def test_page_serves_as_it_is(
    name: str,
    site: Path,
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> None:
    platform, environ = PLATFORMS[name], read_environ(name)
    environ = {
        **environ,
        "PORT": str(free_port),
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "DJSERVE_SHUTDOWN_TIMEOUT": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if "DJSERVE_METRICS_BIND" in environ:
        environ["DJSERVE_METRICS_BIND"] = f"127.0.0.1:{find_free_port()}"
    deployment = platform.read()
    assert "Applying auth" in run(deployment.release, site, environ)
    words = find_words(deployment.start)
    server = start_server(*words, port=free_port, cwd=site, env=environ)
    host = environ["ALLOWED_HOSTS"].split(",")[0]
    router = {
        "Host": host,
        "X-Forwarded-Proto": "https",
        **{key: value.format(host=host) for key, value in platform.adds.items()},
    }
    with httpx.Client(base_url=server.url, timeout=120) as client:
        ready = client.get("/readyz", headers={"Host": f"10.1.2.3:{free_port}"})
        whoami = client.get("/whoami/", headers=router)
        plain = client.get("/whoami/", headers=router | {"X-Forwarded-Proto": "http"})
        # Of the two only one is the host, by platform.
        forged = {"Host": "localhost", "X-Forwarded-Host": "localhost"}
        stranger = client.get("/whoami/", headers=router | forged)
        style = client.get("/static/admin/css/base.css", headers=router)
        sign_in = client.get("/admin/login/", headers=router)
        with client.stream("GET", "/events/", headers=router) as events:
            assert next(events.iter_raw()) == b"data: first\n\n"
            server.process.terminate()
            code = server.process.wait(120)

    assert (ready.status_code, ready.text) == (200, "ready\n")
    assert whoami.text == f"{CLIENT} https {host}"
    assert plain.headers["Location"] == f"https://{host}/whoami/"
    assert stranger.status_code == 400
    assert style.headers["Content-Type"].startswith("text/css")
    assert sign_in.status_code == 200
    assert "Secure" in sign_in.headers["Set-Cookie"]
    assert code == 0
    assert "Traceback" not in server.output


@every_platform
def test_settings_pass_the_deployment_checks(name: str, site: Path) -> None:
    environ = {**read_environ(name), "DATABASE_URL": "sqlite://:memory:"}
    said = run("python manage.py check --deploy --fail-level WARNING", site, environ)

    assert "no issues" in said


@pytest.mark.parametrize("missing", ["SECRET_KEY", "ALLOWED_HOSTS"])
def test_nothing_starts_without(missing: str, site: Path) -> None:
    environ = {**os.environ, **read_environ("heroku"), "PORT": str(find_free_port())}
    del environ[missing]
    done = subprocess.run(
        [sys.executable, *find_words(read_heroku().start)],
        cwd=site,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode != 0
    assert missing in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_line_names_what_does_not_fit(
    workers: str, site: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    environ = {
        "DJANGO_SETTINGS_MODULE": "mysite.production",
        "SECRET_KEY": KEY,
        "ALLOWED_HOSTS": "mysite.example.com",
        "DATABASE_URL": "sqlite://:memory:",
        "DYNO": "web.1",
        "PORT": str(free_port),
        "WEB_CONCURRENCY": workers,
    }
    words = find_words(read_heroku().start)
    server = start_server(*words, port=free_port, cwd=site, env=environ)
    server.wait_for("Heroku: ")
    server.stop()

    (line,) = (line for line in server.output.splitlines() if "Heroku: " in line)
    assert "set SHUTDOWN_TIMEOUT to 25" in line
    assert "set it to 95" in line
    assert "set PROXY_HEADERS, TRUSTED_PROXIES to private" in line


def test_settings_show_where_each_value_is_from(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    add_settings(
        project,
        'INSTALLED_APPS.insert(0, "djserve")',
        'DJSERVE = {"BACKLOG": 64, "KEEP_ALIVE_TIMEOUT": 30}',
    )
    environ = {
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
        "DJSERVE_KEEP_ALIVE_TIMEOUT": "95s",
        "PORT": "24001",
    }
    said = run("python manage.py djserve settings", project, environ)

    lines = {text.split()[0]: text for text in said.splitlines() if text.strip()}
    assert lines["BACKLOG"].split()[1:] == ["settings.DJSERVE", "64"]
    keep_alive = ["variable", "DJSERVE_KEEP_ALIVE_TIMEOUT", "95"]
    assert lines["KEEP_ALIVE_TIMEOUT"].split()[1:] == keep_alive
    assert lines["BIND"].split()[1:] == ["variable", "PORT", "['0.0.0.0:24001']"]
    assert lines["WRITE_TIMEOUT"].split()[1:] == ["default", "30"]
