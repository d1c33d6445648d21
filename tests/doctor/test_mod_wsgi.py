"""mod_wsgi-express's flags."""

from __future__ import annotations

import pytest

from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mysite/wsgi.py", "--bind 0.0.0.0:8000"),
        ("mysite/wsgi.py --port 80 --processes 2", "--workers 2 --bind 0.0.0.0:80"),
        (
            "--application-type module mysite.wsgi --host 127.0.0.1",
            "--bind 127.0.0.1:8000",
        ),
        (
            "mysite/wsgi.py --url-alias /static ./static --threads 5",
            "--files /static/=./static --threads 5 --bind 0.0.0.0:8000",
        ),
        (
            "mysite/wsgi.py --request-timeout 30 --access-log",
            "--request-timeout 30 --access-log - --bind 0.0.0.0:8000",
        ),
    ],
)
def test_flag_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"mod_wsgi-express start-server {given}")
    words = found.command.split()

    assert words[0] == "djserve"
    assert words[-1] == "mysite.asgi:application"
    kept = expected.replace("--threads 5 ", "").split()
    assert sorted(words[1:-1]) == sorted(kept)
    assert [each for each in found.outcomes if each.kind is Kind.UNKNOWN] == []


def test_flag_that_apache_alone_has_says_so() -> None:
    found = translate("mod_wsgi-express start-server w.py --include-file x.conf")
    (outcome,) = [each for each in found.outcomes if each.given.startswith("--include")]

    assert outcome.kind is Kind.MISSING
    assert "Apache" in outcome.note
