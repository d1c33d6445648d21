"""gunicorn.conf.py, read and not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from djserve.doctor.config_file import read_config
from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate

CONFIG = """
import multiprocessing, os
raise SystemExit("this is never run")
address = "0.0.0.0:8000"
bind = [address, "unix:/run/x.sock"] if False else address
workers = multiprocessing.cpu_count() * 2 + 1
timeout: int = 90
accesslog = "-"
daemon = False
preload_app = True
keepalive = int(os.environ["KEEP"])

def post_fork(server, worker):
    pass
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "gunicorn.conf.py"
    path.write_text(text)
    return path


def test_values_that_are_computed_are_not_known(tmp_path: Path) -> None:
    entries = {each.name: each.values for each in read_config(write(tmp_path, CONFIG))}

    assert entries == {
        "address": ("0.0.0.0:8000",),
        "bind": None,
        "workers": None,
        "timeout": ("90",),
        "accesslog": ("-",),
        "daemon": (),
        "preload_app": ("",),
        "keepalive": None,
        "post_fork": None,
    }


def test_names_of_constants_are_followed(tmp_path: Path) -> None:
    path = write(tmp_path, 'address = ":80"\nbind = address\n')

    assert read_config(path)[1].values == (":80",)


def test_file_is_translated_without_being_named(tmp_path: Path) -> None:
    write(tmp_path, CONFIG)
    found = translate("gunicorn app:app", folder=tmp_path)
    outcomes = {each.given.partition(" =")[0]: each for each in found.outcomes}

    assert found.command == (
        "djserve --workers auto --worker-hang-timeout 90 --access-log - "
        "--proxy-headers app:app"
    )
    assert outcomes["bind"].kind is Kind.MISSING
    assert "line 5" in outcomes["bind"].note
    assert outcomes["def post_fork"].kind is Kind.MISSING
    assert outcomes["preload_app"].kind is Kind.NEEDLESS


def test_command_line_comes_first(tmp_path: Path) -> None:
    write(tmp_path, "workers = 3\nbind = ':1'\n")
    found = translate("gunicorn -c gunicorn.conf.py -w 5 app:app", folder=tmp_path)

    assert found.command == (
        "djserve --workers 5 --bind 0.0.0.0:1 --proxy-headers app:app"
    )


@pytest.mark.parametrize("text", ["def (", "\0", "x = " + "(" * 500])
def test_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    found = translate("gunicorn app:app", folder=tmp_path)

    assert found.command == "djserve --proxy-headers app:app"
    assert found.outcomes[0].given == str(path)


def test_file_that_is_missing_is_named(tmp_path: Path) -> None:
    found = translate("gunicorn -c nope.py app:app", folder=tmp_path)

    assert found.outcomes[0].given == "nope.py"
    assert found.outcomes[0].kind is Kind.MISSING
