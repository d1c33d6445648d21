"""What peers may do for nothing, and how it is given back."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes

from djserve.protocols.http2.errors import Allowance, HTTP2Error


def spend(allowance: Allowance, times: int) -> None:
    for _ in range(times):
        allowance.spend()


def test_allowance_ends() -> None:
    allowance = Allowance("tests", 3, "TEST_LIMIT")
    spend(allowance, 3)

    with pytest.raises(HTTP2Error, match="Too many tests") as caught:
        allowance.spend()
    assert caught.value.code == ErrorCodes.ENHANCE_YOUR_CALM
    assert caught.value.setting == "TEST_LIMIT"


def test_allowance_comes_back_with_time() -> None:
    allowance = Allowance("tests", 10)
    spend(allowance, 10)
    allowance.refill(2.0)

    spend(allowance, 2)
    with pytest.raises(HTTP2Error):
        allowance.spend()


def test_allowance_never_exceeds_its_limit() -> None:
    allowance = Allowance("tests", 2)
    allowance.refill(1000.0)
    allowance.earn(1000.0)

    spend(allowance, 2)
    with pytest.raises(HTTP2Error):
        allowance.spend()


def test_fault_of_a_connection_has_no_stream() -> None:
    error = HTTP2Error("Nonsense")

    assert (error.code, error.stream_id) == (ErrorCodes.PROTOCOL_ERROR, 0)
