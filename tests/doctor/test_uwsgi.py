"""uWSGI's options."""

from __future__ import annotations

import pytest

from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "--http :8000 --module x.wsgi --processes 4",
            "--bind 0.0.0.0:8000 --workers 4 x.asgi:application",
        ),
        (
            "--http-socket 127.0.0.1:80 -w x.wsgi:application -p4",
            "--bind 127.0.0.1:80 --workers 4 x.asgi:application",
        ),
        (
            "--http :80 --wsgi-file x/wsgi.py --callable app",
            "--bind 0.0.0.0:80 x.wsgi:app",
        ),
        ("--http=:80 --callable app --module=x", "--bind 0.0.0.0:80 x:app"),
        (
            "-s /run/x.sock -C 660 -w x.wsgi",
            "--bind unix:/run/x.sock --unix-mode 660 x.asgi:application",
        ),
        (":3031 -w x.wsgi", "--bind :3031 x.asgi:application"),
        (
            "--https :443,a.crt,a.key -w x.wsgi",
            "--bind 0.0.0.0:443 --certfile a.crt --keyfile a.key x.asgi:application",
        ),
        ("--mount /shop=x.wsgi", "--root-path /shop x.asgi:application"),
        ("--processes %k -w x.wsgi", "--workers auto x.asgi:application"),
        (
            "-w x.wsgi --harakiri 30 --max-requests 9 --reload-on-rss 300",
            "--request-timeout 30 --worker-max-requests 9 "
            "--worker-max-memory 300MiB x.asgi:application",
        ),
        (
            "-w x.wsgi --static-map /static=/srv/s --uid www --gid www",
            "--files /static/=/srv/s --user www --group www x.asgi:application",
        ),
        (
            "-w x.wsgi -b 32768 --limit-post 100 --listen 512 --lazy-apps",
            "--body-size-limit 100 --backlog 512 --no-preload x.asgi:application",
        ),
    ],
)
def test_option_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"uwsgi {given}")
    words = found.command.replace("--bind :3031", "--bind 0.0.0.0:3031").split()

    assert words == ["djserve", *expected.replace(" :3031", " 0.0.0.0:3031").split()]
    assert [each for each in found.outcomes if each.kind is Kind.UNKNOWN] == []


def test_command_for_a_project() -> None:
    found = translate(
        "uwsgi --http :8000 --module x.wsgi --processes 4 --chdir /srv/x "
        "--env DJANGO_SETTINGS_MODULE=x.settings --master",
        manage="manage.py",
    )

    assert found.command == (
        "cd /srv/x && env DJANGO_SETTINGS_MODULE=x.settings python manage.py runasgi "
        "--bind 0.0.0.0:8000 --workers 4"
    )


@pytest.mark.parametrize(
    "given", ["--gevent 100", "--emperor /etc/x", "--spooler x", "--cheaper 2"]
)
def test_option_without_an_equivalent_says_what_to_do(given: str) -> None:
    found = translate(f"uwsgi -w x.wsgi {given}")
    (outcome,) = [each for each in found.outcomes if each.kind is Kind.MISSING]

    assert outcome.given == given
    assert outcome.note


def test_option_that_is_not_known_is_named() -> None:
    found = translate("uwsgi -w x.wsgi --snmp 1.2.3.4:161")
    (outcome,) = [each for each in found.outcomes if each.kind is Kind.UNKNOWN]

    assert outcome.given.startswith("--snmp")


def test_variables_are_options() -> None:
    found = translate("UWSGI_HTTP=:80 UWSGI_MASTER=1 uwsgi -w x.wsgi")

    assert found.command == "djserve --bind 0.0.0.0:80 x.asgi:application"
