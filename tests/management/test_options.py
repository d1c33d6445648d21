"""The command line of ``runasgi`` as settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djserve.conf.parser import Flag, parse
from djserve.errors import ConfigError
from djserve.management.options import (
    find_development_certificate,
    read_options,
    trust_line,
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"addrport": "8000"}, ("127.0.0.1:8000",)),
        ({"addrport": "0.0.0.0:80"}, ("0.0.0.0:80",)),
        ({"addrport": "unix:/run/x"}, ("unix:/run/x",)),
        (
            {"addrport": "8000", "bind": [Flag("--bind", "[::1]:81")]},
            ("127.0.0.1:8000", "[::1]:81"),
        ),
        ({"addrport": None}, ("127.0.0.1:8000",)),
    ],
)
def test_address_is_listened_on(options: dict[str, Any], expected: tuple[str]) -> None:
    assert parse(read_options(options)).bind.bind == expected


def test_other_options_are_settings() -> None:
    given = read_options({"addrport": "80", "workers": "2", "skip_checks": True})

    assert set(given) == {"BIND", "WORKERS"}
    assert parse(given).workers.workers == 2


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_certificate_becomes_the_settings() -> None:
    mapping: dict[str, Any] = {}

    certificate = find_development_certificate(mapping)

    config = parse(mapping)
    assert config.tls.certfile == certificate.certfile
    assert config.tls.keyfile == certificate.keyfile


def test_second_use_finds_the_first_one() -> None:
    assert find_development_certificate({}) == find_development_certificate({})


def test_another_certificate_beside_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave --certfile out"):
        find_development_certificate({"CERTFILE": "other.pem"})


def test_place_that_cannot_be_written_is_one_clear_line(
    data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_home / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(data_home / "file"))

    with pytest.raises(ConfigError, match="cannot be written"):
        find_development_certificate({})


def test_line_names_the_authority() -> None:
    certificate = find_development_certificate({})

    assert certificate.ca_path in trust_line(certificate)
