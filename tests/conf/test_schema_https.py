"""The settings beside HTTPS: what the defaults promise, and what is refused."""

from __future__ import annotations

import pytest

from djserve.conf.parser import parse
from djserve.errors import ConfigError


def test_nothing_is_redirected_unless_asked_for() -> None:
    config = parse({}).redirect

    assert config.redirect_http == ()
    assert config.redirect_port is None


def test_redirect_needs_a_certificate() -> None:
    with pytest.raises(ConfigError, match=r"REDIRECT_HTTP.*a certificate beside it"):
        parse({"REDIRECT_HTTP": ["127.0.0.1:80"]})


def test_port_must_be_one() -> None:
    with pytest.raises(ConfigError, match=r"REDIRECT_PORT.*up to 65535, got 70000"):
        parse({"REDIRECT_PORT": 70_000})
