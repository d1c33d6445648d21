"""What becomes of a test whose program is not installed."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RequireProgram = Callable[..., str]


def test_program_is_found_by_its_name(require_program: RequireProgram) -> None:
    assert require_program("sh").endswith("/sh")


def test_environment_variable_overrides_the_search(
    require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PROGRAM", sys.executable)

    assert require_program("no-such-program", env="SOME_PROGRAM") == sys.executable


def test_missing_program_skips_the_test(
    require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJSERVE_REQUIRE_ALL", raising=False)

    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        require_program("no-such-program")


def test_missing_program_fails_the_test_where_all_are_required(
    require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJSERVE_REQUIRE_ALL", "1")

    with pytest.raises(pytest.fail.Exception, match="DJSERVE_REQUIRE_ALL"):
        require_program("no-such-program")


def test_ipv6_that_is_not_there_skips_the_test(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJSERVE_REQUIRE_ALL", raising=False)
    # As on a machine whose kernel has it switched off.
    monkeypatch.setattr(socket, "AF_INET6", 9999)

    with pytest.raises(pytest.skip.Exception, match="IPv6"):
        request.getfixturevalue("require_ipv6")


@pytest.mark.parametrize(
    "program",
    ["caddy", "chromium", "curl", "h2load", "nginx", "redis-server"],
)
def test_no_test_runs_an_optional_program_unasked(program: str) -> None:
    tests = Path(__file__).resolve().parents[1]
    sources = [path for path in tests.rglob("test_*.py") if path != Path(__file__)]

    assert [path.name for path in sources if f'["{program}",' in path.read_text()] == []
