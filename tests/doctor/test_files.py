"""What the files of a project say: start commands, packages, proxies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from djserve.doctor.files import LARGEST, read_files

START = "gunicorn mysite.wsgi -w 2"
LIST = '["gunicorn", "mysite.wsgi", "-w", "2"]'


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("Procfile", f"release: x\nweb: {START}\n", 2),
        ("Procfile.dev", f"web: {START}\n", 1),
        ("Dockerfile", f"FROM x\nRUN pip install gunicorn\nCMD {START}\n", 3),
        ("docker/web.Dockerfile", f"FROM x\nCMD {LIST}\n", 2),
        (
            "Dockerfile",
            'FROM x\nENTRYPOINT ["gunicorn"]\nCMD ["mysite.wsgi", "-w", "2"]',
            2,
        ),
        ("Dockerfile", "FROM x\nCMD gunicorn \\\n  mysite.wsgi \\\n  -w 2\n", 2),
        ("compose.yaml", f"services:\n  web:\n    command: {START}\n", 3),
        ("compose.yml", f"services:\n  web:\n    command: '{START}' # so\n", 3),
        ("compose.yml", f"web:\n  command: {LIST}\n", 2),
        ("k8s/web.yaml", "command:\n- gunicorn\n- mysite.wsgi\n- '-w'\n- \"2\"\n", 1),
        ("compose.yml", "web:\n  command: >\n    gunicorn mysite.wsgi\n    -w 2\n", 2),
        ("compose.yml", f"web:\n  command: |\n    set -e\n    {START}\n", 4),
        ("render.yaml", f"startCommand: {START}\n", 1),
        ("deploy/web.service", f"[Service]\nExecStart=-{START}\n", 2),
        ("supervisord.conf", f"[program:web]\ncommand = {START}\n", 2),
        ("fly.toml", f"[processes]\napp = '{START}'\n", 2),
        ("railway.json", f'{{"deploy":\n {{"startCommand": "{START}"}}}}', 2),
        ("start.sh", f"#!/bin/sh\n# {START}\n{START}\n", 3),
        ("Makefile", f"serve:\n\t@{START}\n", 2),
        ("compose/django/start", f"#!/bin/bash\nset -e\nexec {START}\n", 3),
        ("start.bat", f"@echo off\r\nrem {START}\r\n@{START}\r\n", 3),
        ("start.cmd", "gunicorn ^\r\n  mysite.wsgi -w 2\r\n", 1),
        ("start.ps1", "# x\n& gunicorn mysite.wsgi `\n  -w 2\n", 2),
        ("web.yaml", 'command: ["sh", "-c"]\nargs: ["gunicorn mysite.wsgi -w 2"]', 2),
        ("web.yaml", "- command: [gunicorn]\n  args: [mysite.wsgi, -w, '2']\n", 1),
        (
            "web.yaml",
            "command:\n  - gunicorn\nimage: x\nargs:\n  - mysite.wsgi\n  - -w\n  - '2'",
            1,
        ),
    ],
)
def test_command_that_starts_a_server_is_found(
    tmp_path: Path, name: str, text: str, line: int
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(text.encode())
    (start,) = read_files(tmp_path).starts

    assert (start.path, start.line) == (name, line)
    assert start.text.removeprefix("exec ").split() == START.split()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "# x\nGunicorn==2\n-r base.txt\n"),
        ("requirements/base.in", "gunicorn[http2] >= 2 ; python_version > '3'\n"),
        ("pyproject.toml", '[project]\ndependencies = ["gunicorn>=2"]\n'),
        ("pyproject.toml", '[project.optional-dependencies]\nweb = ["gunicorn"]\n'),
        ("pyproject.toml", '[dependency-groups]\nweb = ["gunicorn"]\n'),
        ("pyproject.toml", '[tool.poetry.dependencies]\ngunicorn = "^2"\n'),
        ("pyproject.toml", '[tool.poetry.group.a.dependencies]\ngunicorn = "^2"\n'),
        ("requirements.txt", "git+https://github.com/x/y.git@1.0#egg=gunicorn\n"),
        ("requirements.txt", "-e git+ssh://git@host/x.git#egg=gunicorn[gevent]\n"),
        ("requirements.txt", "--editable=git+https://host/x/gunicorn.git@main # y\n"),
        ("requirements.txt", "https://host/gunicorn-23.0-py3-none-any.whl\n"),
        ("requirements.txt", "https://host/gunicorn\ngunicorn @ git+https://host/x\n"),
        ("Pipfile", '[packages]\ngunicorn = "*"\n'),
        ("setup.cfg", "[options]\ninstall_requires =\n    gunicorn>=2\n"),
    ],
)
def test_package_that_is_required_is_found(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    files = read_files(tmp_path)

    assert files.packages == {"gunicorn": name}
    assert files.starts == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("pyproject.toml", b"[project\n"),
        ("app.json", b"{"),
        ("pyproject.toml", b"\xff\xfe\x00"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "Procfile").write_text(f"web: {START}")
    files = read_files(tmp_path)

    assert [each.partition(":")[0] for each in files.unreadable] == [name]
    assert len(files.starts) == 1


@pytest.mark.parametrize("name", ["Procfile", "compose.yaml", "x.service", "x.sh"])
def test_any_bytes_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 8)

    assert read_files(tmp_path).starts == []


def test_what_is_not_the_projects_is_left_alone(tmp_path: Path) -> None:
    for folder in (".git", "node_modules", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Procfile").write_text(f"web: {START}")
    (tmp_path / "mine" / "pyvenv.cfg").touch()
    (tmp_path / "large.sh").write_text(f"{START}\n" * LARGEST)

    assert read_files(tmp_path).starts == []


def test_proxies_are_found(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("location / { proxy_pass http://app; }")
    (tmp_path / "site").write_text("server { location / { proxy_pass http://app; } }")
    (tmp_path / "redis.conf").write_text("port 6379")
    (tmp_path / "README").write_text("It has a proxy_pass in front.")

    found = [path for path, _ in read_files(tmp_path).proxies]
    assert found == ["nginx.conf", "site"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.service",
            "ExecStart=gunicorn a:b\nEnvironment=GUNICORN_CMD_ARGS='-w 3' A=b",
        ),
        ("a.service", "Environment='GUNICORN_CMD_ARGS=-w 3'\nExecStart=gunicorn a:b"),
        ("a.conf", "command=gunicorn a:b\nenvironment=A='b',GUNICORN_CMD_ARGS='-w 3'"),
    ],
)
def test_variables_of_a_unit_are_its_commands(
    tmp_path: Path, name: str, text: str
) -> None:
    other = "[other]\nenvironment=GUNICORN_CMD_ARGS=-w9\nEnvironment=X='\n"
    (tmp_path / name).write_text(f"{other}[Service]\n{text}\n")
    (start,) = read_files(tmp_path).starts

    assert start.text == "GUNICORN_CMD_ARGS='-w 3' gunicorn a:b"


def test_continued_line_is_shown_without_what_indents_it(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("ExecStart=gunicorn \\\n    -w 2 \\\n\ta:b\n")

    assert read_files(tmp_path).starts[0].text == "gunicorn -w 2 a:b"


def test_what_is_no_file_and_has_no_name_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / ".env").write_text(f"#!/bin/sh\n{START}\n")
    files = read_files(tmp_path)

    assert not files.unreadable
    assert not files.starts


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_fifo_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Procfile")
    (tmp_path / "Procfile.dev").write_text(f"web: {START}\r\n")
    files = read_files(tmp_path)

    assert [start.text for start in files.starts] == [START]
    assert len(files.unreadable) == 1
    assert "it is a FIFO" in files.unreadable[0]


def test_stage_has_the_environment_of_the_one_that_it_is_built_from(
    tmp_path: Path,
) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM --platform=linux/amd64 python:3 AS Base\n"
        "ENV GUNICORN_CMD_ARGS=-w3\n"
        "FROM python:3 AS other\n"
        "FROM base\n"
        "CMD gunicorn mysite.wsgi\n"
    )
    (start,) = read_files(tmp_path).starts

    assert start.text == "GUNICORN_CMD_ARGS=-w3 gunicorn mysite.wsgi"
