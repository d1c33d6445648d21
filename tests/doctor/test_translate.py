"""Whole command lines: wrappers, shells, and what runs afterwards."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from djserve.doctor.translate import NoServer, translate
from tests.support.waiting import PATIENCE

ASGI = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("exec daphne -v0 a:b", "exec djserve --verbosity 0 a:b"),
        ("/venv/bin/daphne -v0 a:b", "/venv/bin/djserve --verbosity 0 a:b"),
        ("python -m daphne -v0 a:b", "python -m djserve --verbosity 0 a:b"),
        ("python -u -m daphne -v0 a:b", "python -u -m djserve --verbosity 0 a:b"),
        (
            "python3.13 -Wd -X dev -m daphne -v0 a:b",
            "python3.13 -Wd -X dev -m djserve --verbosity 0 a:b",
        ),
        ("python -um daphne -v0 a:b", "python -u -m djserve --verbosity 0 a:b"),
        ("py -3.13 -m daphne -v0 a:b", "py -3.13 -m djserve --verbosity 0 a:b"),
        ("daphne -v0 a:b # one", "djserve --verbosity 0 a:b # one"),
        ("./m.sh\ndaphne -v0 \\\n a:b", "./m.sh\ndjserve --verbosity 0 a:b"),
        ("ddtrace-run daphne -v0 a:b", "ddtrace-run djserve --verbosity 0 a:b"),
        ("poetry run daphne -v0 a:b", "poetry run djserve --verbosity 0 a:b"),
        ("A=b daphne -v0 a:b", "A=b djserve --verbosity 0 a:b"),
        ("./m.sh && daphne -v0 a:b &", "./m.sh && djserve --verbosity 0 a:b &"),
        (
            "pip install daphne; daphne -v0 a:b",
            "pip install daphne; djserve --verbosity 0 a:b",
        ),
        ("CMD exec daphne -v0 a:b", "exec djserve --verbosity 0 a:b"),
        ('CMD ["daphne", "-v0", "a:b"]', "djserve --verbosity 0 a:b"),
        ("ENTRYPOINT [ 'daphne', '-v0', 'a:b' ]", "djserve --verbosity 0 a:b"),
        ('["daphne", "-v0", "a:b"]', "djserve --verbosity 0 a:b"),
        ("cmd [daphne, -v0, a:b]", "djserve --verbosity 0 a:b"),
        ("daphne -v0 `\n a:b", "djserve --verbosity 0 a:b"),
        ("daphne -v0 ^\r\n a:b", "djserve --verbosity 0 a:b"),
        (
            r"\\host\share\Scripts\daphne.exe -v0 a:b",
            r"\\host\share\Scripts\djserve --verbosity 0 a:b",
        ),
        (
            'powershell -Command "daphne -v0 a:b"',
            "powershell -Command 'djserve --verbosity 0 a:b'",
        ),
        ("[ -f x ] && daphne -v0 a:b", "[ -f x ] && djserve --verbosity 0 a:b"),
        (
            r"C:\venv\Scripts\daphne.exe -v0 a:b",
            r"C:\venv\Scripts\djserve --verbosity 0 a:b",
        ),
        (
            r"venv\Scripts\python.exe -m daphne -v0 a:b",
            r"venv\Scripts\python.exe -m djserve --verbosity 0 a:b",
        ),
        (
            r'& "C:\My Site\Scripts\Daphne.EXE" -v0 a:b',
            r'& "C:\My Site\Scripts\djserve" --verbosity 0 a:b',
        ),
        (
            'sh -c "daphne -v0 -p $PORT a:b"',
            'sh -c "djserve --bind 127.0.0.1:$PORT --verbosity 0 a:b"',
        ),
    ],
)
def test_what_is_around_the_server_stays(line: str, expected: str) -> None:
    assert translate(line).command == expected


def test_arguments_in_the_environment_count() -> None:
    found = translate("GUNICORN_CMD_ARGS='-w 3 -b :80' gunicorn -w 2 a:b")

    assert found.command == (
        "djserve --bind 0.0.0.0:80 --workers 2 --proxy-headers a:b"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mysite.wsgi", "mysite.asgi:application"),
        ("mysite.wsgi:application", "mysite.asgi:application"),
        ("shop:wsgi_app", "shop:wsgi_app"),
        ("'shop:create()'", "--factory shop:create"),
    ],
)
def test_application_of_gunicorn(name: str, expected: str) -> None:
    found = translate(f"gunicorn {name} --proxy-protocol")

    assert found.words == ("--proxy-protocol",)
    assert found.command.replace("--proxy-protocol ", "") == f"djserve {expected}"


@pytest.mark.parametrize(
    ("line", "application"),
    [
        ("hypercorn shop", "shop:app"),
        ("hypercorn mysite.asgi", "mysite.asgi:application"),
        ("hypercorn asgi:shop:app", "shop:app"),
        ("hypercorn wsgi:mysite.wsgi:application", "mysite.asgi:application"),
        ("hypercorn mysite/asgi.py:application", "mysite.asgi:application"),
        ("granian --interface asgi shop", "shop:app"),
        ("gunicorn shop", "shop:application"),
    ],
)
def test_application_is_the_one_that_the_server_finds(
    line: str, application: str
) -> None:
    assert translate(line).command.split()[-1] == application


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("gunicorn shop:app", True),
        ("gunicorn shop:app -k gthread", True),
        ("hypercorn wsgi:shop:app", True),
        ("gunicorn shop:app -k uvicorn.workers.UvicornWorker", False),
        ("gunicorn shop:app -k shop.workers.Worker", False),
        ("gunicorn mysite.wsgi", False),
        ("hypercorn shop:app", False),
    ],
)
def test_wsgi_application_without_an_asgi_one_is_named(
    line: str, is_named: bool
) -> None:
    notes = [each.note for each in translate(line).outcomes]

    assert any("WsgiToAsgi" in note for note in notes) is is_named


def test_options_of_python_stay_with_managepy() -> None:
    assert translate("python -u -m daphne -v0 a:b", manage="manage.py").command == (
        "python -u manage.py runasgi --verbosity 0"
    )


@pytest.mark.parametrize("line", ["python run.py -m daphne a:b", "pip -m daphne a:b"])
def test_module_is_one_that_python_runs(line: str) -> None:
    with pytest.raises(NoServer):
        translate(line)


def test_django_project_is_served_by_its_command() -> None:
    line = "/venv/bin/gunicorn --pythonpath src mysite.wsgi"

    assert translate(line, manage="manage.py").command == (
        "/venv/bin/python manage.py runasgi --pythonpath src --proxy-headers"
    )


@pytest.mark.parametrize("line", ["", "ls -l", "pip install gunicorn", "nginx -g x"])
def test_line_without_a_server_is_an_error(line: str) -> None:
    with pytest.raises(NoServer, match="daphne, uvicorn, gunicorn"):
        translate(line)


@pytest.mark.parametrize(
    "line",
    [
        "uvicorn --help",
        "uvicorn a:b --version",
        "gunicorn -h",
        "daphne --help",
        "hypercorn -h",
        "granian --version",
        "uwsgi --version",
        "waitress-serve --help",
    ],
)
def test_question_is_no_start(line: str) -> None:
    with pytest.raises(NoServer, match="starts no server"):
        translate(line)
    assert translate(f"{line}; daphne -v0 a:b").command == (
        f"{line}; djserve --verbosity 0 a:b"
    )


def test_further_servers_of_a_line_are_named() -> None:
    found = translate("daphne -v0 a:b & gunicorn -w 2 c:d & wait")

    assert found.command == "djserve --verbosity 0 a:b & gunicorn -w 2 c:d & wait"
    assert [each.partition(": ")[2] for each in found.problems] == ["gunicorn -w 2 c:d"]


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("uvicorn a:b --worker 4", "--workers"),
        ("gunicorn a:b --max-request 9", "--max-requests"),
        ("granian a:b --prot 80", "--port"),
        ("daphne --websocket_timeot 9 a:b", "--websocket_timeout"),
    ],
)
def test_unknown_flag_has_a_suggestion(line: str, flag: str) -> None:
    notes = [each.note for each in translate(line).outcomes if each.given in line]

    assert f"Did you mean {flag}?" in notes


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gunicorn shop.wsgi", "python src/manage.py runasgi"),
        ("gunicorn --chdir src shop.wsgi", "cd src && python manage.py runasgi"),
        ("cd src && gunicorn shop.wsgi", "cd src && python manage.py runasgi"),
        ("cd /app/src; gunicorn shop.wsgi", "cd /app/src; python manage.py runasgi"),
        ("cd resrc && gunicorn s.wsgi", "cd resrc && python src/manage.py runasgi"),
    ],
)
def test_managepy_below_is_found_from_where_the_command_runs(
    line: str, expected: str
) -> None:
    found = translate(line, manage="src/manage.py").command

    assert found == f"{expected} --proxy-headers"


def test_value_that_djserve_refuses_is_named() -> None:
    found = translate("uvicorn a:b --workers 0")

    assert "--workers" in " ".join(found.problems)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "line",
    [
        "daphne -b 127.0.0.1 -p {port} -t 60 --proxy-headers shop:application",
        "uvicorn shop:application --port {port} --ws-max-size 99 --loop asyncio",
        "gunicorn -b 127.0.0.1:{port} -k uvicorn.workers.UvicornWorker -t 90 shop",
        "hypercorn -b 127.0.0.1:{port} --access-logfile - shop:application",
        "GRANIAN_PORT={port} granian --interface asginl shop:application --no-ws",
    ],
)
def test_translated_command_serves(line: str, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "shop.py").write_text(ASGI)
    command = translate(line.format(port=free_port)).command
    words = [sys.executable, "-m", *shlex.split(command)]
    server = subprocess.Popen(words, cwd=tmp_path)
    try:
        assert fetch(f"http://127.0.0.1:{free_port}/", server) == "served"
    finally:
        server.terminate()
        server.wait(PATIENCE)
    assert server.returncode == 0


def fetch(url: str, server: subprocess.Popen[bytes]) -> str:
    """Return the first answer of a server that is being started."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return httpx.get(url).text
        except httpx.ConnectError:
            time.sleep(0.05)
    return ""
