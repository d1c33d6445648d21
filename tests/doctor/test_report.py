"""The report on three projects of strangers."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from djserve.doctor.report import describe_translation, examine
from djserve.doctor.translate import translate


def test_translation_shows_the_command_first() -> None:
    text = describe_translation(translate("uvicorn a:b --new 1 --loop uvloop"))
    lines = text.splitlines()

    assert lines[0] == "djserve --access-log - --proxy-headers a:b"
    assert "  --loop uvloop  not needed: uvloop is used if it is installed." in lines
    assert "  --new 1  unknown" in lines
    assert "What differs from uvicorn by default:" in lines


def test_daphne_project(tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()
    (tmp_path / "Procfile").write_text(
        "web: daphne -p $PORT -b 0.0.0.0 mysite.asgi:app"
    )
    (tmp_path / "requirements.txt").write_text("daphne\nchannels\n")
    settings = SimpleNamespace(
        INSTALLED_APPS=["daphne"], ASGI_APPLICATION="mysite.asgi.app"
    )
    text = examine(tmp_path, settings)

    assert "runasgi --bind 0.0.0.0:$PORT --access-log -" in text
    assert 'INSTALLED_APPS: Replace "daphne" by "djserve".' in text
    assert "requirements: Add djserve[channels]" in text


def test_gunicorn_project(tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\nthreads = 4\n")
    (tmp_path / "Dockerfile").write_text('FROM x\nCMD ["gunicorn", "shop.wsgi"]\n')
    text = examine(tmp_path, None)

    assert "python manage.py runasgi --workers 3 --threads 4 --proxy-headers" in text
    assert '["python", "manage.py", "runasgi", "--workers", "3", ' in text


def test_project_that_says_nothing(tmp_path: Path) -> None:
    text = examine(tmp_path, None)

    assert "djserve module:application --bind 0.0.0.0:8000 --workers auto" in text


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[")
    (tmp_path / "Procfile").write_text("web: gunicorn 'a:b -w 2\n")
    text = examine(tmp_path, None, "mysite.settings: KeyError: 'SECRET'")

    assert "It cannot be read: a quote is not closed" in text
    assert "- pyproject.toml: " in text
    assert "- mysite.settings: KeyError: 'SECRET'" in text


def test_server_that_is_only_named_is_no_start(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: pip install waitress-serve x.y")

    assert "No file starts a server that is known" in examine(tmp_path, None)


def test_secrets_of_commands_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(
        "web: SECRET_KEY=pa55word gunicorn a:b\n"
        "two: env DATABASE_URL=postgres://me:pa55word@db/x daphne a:b\n"
        "three: uvicorn a:b --ssl-keyfile-password pa55word\n"
    )
    text = examine(tmp_path, None, "x.settings: KeyError: postgres://a:pa55word@b")

    assert "pa55word" not in text
    assert "SECRET_KEY=*** djserve" in text
    assert "postgres://me:***@db/x" in text


@pytest.mark.parametrize("command", ["gunicorn a:b", '["gunicorn", "a:b"]'])
def test_arguments_in_the_environment_of_an_image(tmp_path: Path, command: str) -> None:
    lines = ["FROM x", 'ENV A=1 GUNICORN_CMD_ARGS="-w 3 -b :80"', f"CMD {command}"]
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    text = examine(tmp_path, None)

    assert "djserve --workers 3 --bind 0.0.0.0:80 --proxy-headers a:b" in text


@pytest.mark.parametrize(
    ("lines", "command", "expected"),
    [
        (
            "ENV UVICORN_PORT=80 UVICORN_WORKERS='2'",
            "uvicorn a:b",
            "0.1:80 --workers 2",
        ),
        ("ENV GRANIAN_PORT 80", '["granian", "a:b"]', "0.1:80 a:b"),
        # Another program's, and those of a stage before.
        ("ENV GRANIAN_WORKERS=2", "hypercorn a:b", "djserve a:b"),
        ("ENV GRANIAN_WORKERS=2\nFROM y", "granian a:b", "djserve a:b"),
    ],
)
def test_flags_in_the_environment_of_an_image(
    tmp_path: Path, lines: str, command: str, expected: str
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM x\n{lines}\nCMD {command}\n")

    assert expected in examine(tmp_path, None)


def test_what_differs_is_told_once_for_each_server(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: uvicorn a:b\ntwo: uvicorn c:d\n")
    text = examine(tmp_path, None)

    assert "djserve --access-log - --proxy-headers c:d" in text
    assert text.count("What differs from uvicorn by default") == 1


@pytest.mark.parametrize("extras", ["daphne", "types, daphne"])
def test_daphne_that_channels_brings_is_named(tmp_path: Path, extras: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"channels[{extras}]==4.3\n")

    assert "requirements.txt: channels[daphne] installs Daphne" in examine(
        tmp_path, None
    )


COMPOSE = """
services:
  db:
    environment: {{POSTGRES_PASSWORD: x}}
  web:
    build: .
    {environment}
    command: {command}
"""


@pytest.mark.parametrize(
    "environment",
    [
        "environment:\n      GUNICORN_CMD_ARGS: -w 3\n      DEBUG: 0",
        "environment:\n      - DEBUG=0\n      - GUNICORN_CMD_ARGS=-w 3",
        'environment:\n    - "GUNICORN_CMD_ARGS=-w 3"',
        "environment:\n      GUNICORN_CMD_ARGS: '-w 3' # three",
        'environment: {DEBUG: "0", GUNICORN_CMD_ARGS: "-w 3"}',
        'environment: ["DEBUG=0", "GUNICORN_CMD_ARGS=-w 3"]',
        "env_file: web.env",
        "env_file:\n      - none.env\n      - ./web.env",
        "env_file:\n      - path: web.env\n        required: false",
        "env_file: [web.env]",
    ],
)
@pytest.mark.parametrize("command", ["gunicorn a:b", '["gunicorn", "a:b"]'])
def test_variables_of_a_service_are_flags(
    tmp_path: Path, environment: str, command: str
) -> None:
    text = COMPOSE.format(environment=environment, command=command)
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / "web.env").write_text("export GUNICORN_CMD_ARGS='-w 3'\nX=1\n")

    assert "djserve --workers 3 --proxy-headers a:b" in examine(tmp_path, None)


def test_variables_of_another_service_are_not(tmp_path: Path) -> None:
    text = COMPOSE.format(environment="", command="gunicorn a:b")
    text += "  other:\n    environment:\n      GUNICORN_CMD_ARGS: -w 9\n"
    (tmp_path / "compose.yaml").write_text(text)
    report = examine(tmp_path, None)

    assert "djserve --proxy-headers a:b" in report
    assert "compose.yaml:9: Only gunicorn reads GUNICORN_CMD_ARGS." in report
    assert "--workers 9" in report


def test_broken_file_of_variables_is_named(tmp_path: Path) -> None:
    text = COMPOSE.format(environment="env_file: x.env", command="gunicorn a:b")
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / "x.env").write_text("SECRET pa55word\n")
    report = examine(tmp_path, None)

    # The folder may be long: the line is wrapped somewhere.
    assert "line 1: expected NAME=value" in " ".join(report.split())
    assert "pa55word" not in report


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", ["Type=notify", "ExecReload=", "KillMode=mixed"]),
        ("Type=simple\nKillMode=mixed\n", ["Type=notify", "ExecReload="]),
        ("Type=notify\nExecReload=x\nKillMode=mixed\n", []),
    ],
)
def test_systemd_unit_is_advised(
    tmp_path: Path, lines: str, expected: list[str]
) -> None:
    unit = f"[Service]\n{lines}ExecStart=/srv/venv/bin/gunicorn a:b\n"
    (tmp_path / "web.service").write_text(unit)
    (tmp_path / "other.service").write_text("[Service]\nExecStart=/bin/true\n")
    text = examine(tmp_path, None)
    names = ("Type=notify", "ExecReload=", "KillMode=mixed")

    assert [each for each in names if f"{each}" in text.partition("To change")[2]] == (
        expected
    )
    assert "other.service" not in text


@pytest.mark.parametrize(
    ("name", "section", "line", "is_named"),
    [
        ("web.service", "Service", "TimeoutStopSec=5", True),
        ("web.service", "Service", "TimeoutStopSec=30s", True),
        ("web.service", "Service", "TimeoutStopSec=40", False),
        ("web.service", "Service", "TimeoutStopSec=2min", False),
        ("web.conf", "program:web", "stopwaitsecs=10", True),
        ("web.conf", "program:web", "stopwaitsecs=60", False),
    ],
)
def test_short_time_to_stop_is_named(
    tmp_path: Path, name: str, section: str, line: str, is_named: bool
) -> None:
    key = "ExecStart" if section == "Service" else "command"
    other = "[program:other]\ncommand=/bin/true\nstopwaitsecs=1\n"
    text = f"{other}[{section}]\n{key}=gunicorn a:b\n{line}\n"
    (tmp_path / name).write_text(text)
    report = examine(tmp_path, None)

    assert (f"{name}: {line} may end the server" in report) == is_named
    assert "stopwaitsecs=1 " not in report
    assert ("Type=notify" in report) == (section == "Service")


def test_list_that_needs_a_shell_has_one(tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()
    line = 'CMD ["gunicorn", "--chdir", "/app", "-e", "A=b", "shop.asgi"]'
    (tmp_path / "Dockerfile").write_text(f"FROM x\n{line}\n")
    report = examine(tmp_path, None)

    command = "cd /app && exec env A=b python manage.py runasgi --proxy-headers"
    assert f'["sh", "-c", "{command}"]' in report


def test_variables_that_became_flags_leave_no_env(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        'FROM x\nENV GRANIAN_WORKERS=2\nCMD ["uv", "run", "granian", "a:b"]\n'
    )

    assert '["uv", "run", "djserve", "--workers", "2", "a:b"]' in examine(
        tmp_path, None
    )


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("bind = '[::]:%s' % os.environ.get('PORT', 5006)", "listens on 0.0.0.0:$PORT"),
        ("workers = int(os.getenv('WEB_CONCURRENCY', 2))", "reads WEB_CONCURRENCY"),
    ],
)
def test_variables_of_platforms_need_no_flag(
    tmp_path: Path, line: str, note: str
) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn shop.asgi\n")
    (tmp_path / "gunicorn.conf.py").write_text(f"import os\n{line}\n")
    report = " ".join(examine(tmp_path, None).split())

    assert re.search(rf"not needed: [^.]*{re.escape(note)}", report)


def test_uwsgi_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()
    (tmp_path / "uwsgi.ini").write_text(
        "[uwsgi]\nproject = shop\nmodule = %(project).wsgi\nhttp = :$(PORT)\n"
        "processes = 4\nmaster = true\nenable-threads = false\n# x = y\n"
        "static-map = /static=/srv/static\nstatic-map = /media=/srv/media\n"
        "something = 1\n[other]\nthreads = 9\n"
    )
    text = " ".join(examine(tmp_path, None).split())

    assert "runasgi --bind 0.0.0.0:${PORT} --workers 4 --files" in text
    assert "/static/=/srv/static" in text
    assert "/media/=/srv/media" in text
    assert "something = 1 unknown" in text
    assert "--threads 9" not in text
    assert "enable-threads" not in text
    assert "shop.wsgi -> shop.asgi" in text


def test_apaches_own_configuration_is_advised(tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text("WSGIScriptAlias / /srv/shop/wsgi.py\n")

    assert "Replace WSGIScriptAlias by ProxyPass" in examine(tmp_path, None)
