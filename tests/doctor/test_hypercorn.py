"""Hypercorn's flags: every one that the installed package has, and its settings."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest
from hypercorn.__main__ import main
from hypercorn.config import Config

from djserve.doctor.hypercorn import SERVER
from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate


def find_flags() -> dict[str, bool]:
    """Return each flag of the package, and whether it takes a value."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(["--help"])
    options = output.getvalue().partition("options:")[2]
    flags: dict[str, bool] = {}
    for line in re.findall(r"^  (-[^\n]*)", options, re.MULTILINE):
        heads = re.split(r", ", line.split("  ")[0])
        takes = any(" " in head for head in heads)
        flags |= {head.split(" ")[0]: takes for head in heads}
    return flags


def find_settings() -> set[str]:
    """Return the keys of the package's configuration."""
    names = {
        name
        for name in (*vars(Config), *Config.__annotations__)
        if not name.startswith("_") and not inspect.isfunction(vars(Config).get(name))
    }
    # A property that makes the log, and one that sets verify_mode.
    return names - {"log", "cert_reqs", "ssl_enabled"} - _class_methods()


def _class_methods() -> set[str]:
    return {
        name for name, value in vars(Config).items() if isinstance(value, classmethod)
    }


def test_every_flag_of_the_package_is_known() -> None:
    known = {flag: rule.values != "0" for rule in SERVER.rules for flag in rule.flags}

    assert known == find_flags()


def test_every_setting_of_the_package_is_known() -> None:
    assert {rule.name for rule in SERVER.rules} - {""} == find_settings()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "-b :8000 --bind unix:/run/x.sock",
            "--bind 0.0.0.0:8000 --bind unix:/run/x.sock",
        ),
        (
            "--certfile c --insecure-bind 0.0.0.0:80",
            "--certfile c --redirect-http 0.0.0.0:80",
        ),
        ("-w 4 --graceful-timeout 9", "--workers 4 --shutdown-timeout 9"),
        ("-u www -g web", "--unix-owner www:web"),
        ("-g web", "--unix-owner :web"),
        ("-m 007", "--unix-mode 660"),
        ("--access-logfile -", "--access-log -"),
        (
            "--certfile c --ca-certs a --verify-mode CERT_REQUIRED",
            "--certfile c --client-ca-file a --client-certificates required",
        ),
        ("--max-requests 500 --max-requests-jitter 9", "--worker-max-requests 500"),
        ("--keep-alive 9", "--keep-alive-timeout 9"),
        ("--websocket-ping-interval 5", "--websocket-ping-interval 5"),
        (
            "--statsd-host a:8125 --statsd-prefix web",
            "--statsd a:8125 --statsd-prefix web",
        ),
    ],
)
def test_flag_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"hypercorn {given} app:app")

    assert found.command == f"djserve {expected} app:app"
    assert found.problems == ()


def test_address_of_quic_is_that_of_tls(tmp_path: Path) -> None:
    certfile = tmp_path / "cert.pem"
    certfile.touch()
    given = f"-b :443 --quic-bind :443 --quic-bind :444 --certfile {certfile}"
    found = translate(f"hypercorn {given} app:app")

    flags = f"--bind 0.0.0.0:443 --http3 --certfile {certfile}"
    assert found.command == f"djserve {flags} app:app"
    assert found.problems == ()


@pytest.mark.parametrize(
    "given",
    ["-k trio", "--server-name a.example"],
)
def test_flag_without_an_equivalent_says_what_to_do(given: str) -> None:
    found = translate(f"hypercorn {given} app:app")

    assert found.outcomes[0].kind is Kind.MISSING
    assert found.outcomes[0].note


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conf.toml", 'bind = ["0.0.0.0:80"]\nh2_max_concurrent_streams = 50\n'),
        ("conf.py", 'bind = "0.0.0.0:80"\nh2_max_concurrent_streams = 50\n'),
    ],
)
def test_file_that_is_named_is_translated(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    given = f"file:{name}" if name.endswith(".py") else name
    found = translate(f"hypercorn -c {given} -w 2 app:app", folder=tmp_path)

    expected = "--workers 2 --bind 0.0.0.0:80 --http2-stream-limit 50"
    assert found.command == f"djserve {expected} app:app"


def test_no_file_is_read_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 7")

    assert translate("hypercorn a:b", folder=tmp_path).command == "djserve a:b"
