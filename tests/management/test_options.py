"""The command line of ``runasgi`` as settings."""

from __future__ import annotations

from typing import Any

import pytest

from djserve.conf.parser import Flag, parse
from djserve.management.options import read_options


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
