"""The settings of HTTP/2: what is allowed, and what the defaults promise."""

from __future__ import annotations

import pytest

from djserve.conf.parser import parse
from djserve.errors import ConfigError


def test_http2_is_on_and_bounded() -> None:
    config = parse({}).http2

    assert config.http2
    assert config.http2_cleartext == "trusted"
    assert config.http2_call_limit >= config.http2_stream_limit


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HTTP2_CLEARTEXT", "maybe"),
        ("HTTP2_STREAM_LIMIT", 0),
        ("HTTP2_CONNECTION_WINDOW_SIZE", 65534),
        ("HTTP2_RESET_LIMIT", 0),
        ("HTTP2_PING_INTERVAL", -1),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})
