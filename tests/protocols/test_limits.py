from __future__ import annotations

from djserve.conf.schema import HTTPConfig, LifecycleConfig
from djserve.protocols.limits import DISCARD_LIMIT, LINGER_TIMEOUT


def test_lingering_ends_before_a_shutdown_would_cut_it_off() -> None:
    assert 0 < LINGER_TIMEOUT < LifecycleConfig().shutdown_timeout
    assert HTTPConfig().write_timeout > LINGER_TIMEOUT


def test_less_is_discarded_than_a_request_may_have() -> None:
    assert HTTPConfig().body_size_limit > DISCARD_LIMIT
