"""Durations and sizes in words."""

from __future__ import annotations

import pytest

from djserve.conf.parser import Flag, parse
from djserve.conf.quantities import parse_duration, parse_size
from djserve.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1.5 h", 5400),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("64KiB", 65536),
        ("64k", 65536),
        ("1.5MiB", 1572864),
        ("2 GB", 2 * 10**9),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "s", "5 weeks", "5M5", "-5s", "1e3s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "KiB", "1.5", "0.3KiB", "5 s", "-1KiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_units_are_understood_in_settings_and_flags() -> None:
    config = parse(
        {"HEADER_TIMEOUT": "5m", "BODY_SIZE_LIMIT": Flag("--body-size-limit", "1GiB")}
    )

    assert config.http.header_timeout == 300.0
    assert config.http.body_size_limit == 2**30


def test_what_is_no_size_takes_no_unit() -> None:
    with pytest.raises(ConfigError, match="expected a whole number from 1 up"):
        parse({"BACKLOG": Flag("--backlog", "2KiB")})
    with pytest.raises(ConfigError, match="expected a whole number"):
        parse({"BACKLOG": "2048"})
