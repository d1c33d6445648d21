"""The report on three projects of strangers."""

from __future__ import annotations

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


def test_server_whose_flags_are_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: waitress-serve shop.wsgi:application")
    text = examine(tmp_path, None)

    assert "The flags of waitress-serve are not translated." in text


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
