"""The bounds over all connections."""

from __future__ import annotations

import pytest

from djserve.conf.parser import parse
from djserve.conf.schema_bounds import BoundsConfig
from djserve.errors import ConfigError


def test_defaults_bound_uploads_and_leave_connections_to_the_descriptors() -> None:
    bounds = BoundsConfig()

    assert bounds.connection_limit is None
    assert bounds.upload_disk_limit == 8 * 2**30
    assert bounds.body_time_limit == 3600.0


def test_bounds_are_read_from_the_settings() -> None:
    config = parse({"CONNECTION_LIMIT": 500, "BODY_TIME_LIMIT": None})

    assert config.bounds.connection_limit == 500
    assert config.bounds.body_time_limit is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("CONNECTION_LIMIT", 0), ("UPLOAD_DISK_LIMIT", -1), ("BODY_TIME_LIMIT", 0)],
)
def test_bound_that_lets_nothing_through_is_an_error(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})
