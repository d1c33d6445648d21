"""Error codes are those of the RFCs, as aioquic has them."""

from __future__ import annotations

from aioquic.h3.connection import ErrorCode as Known

from djserve.protocols.http3.errors import ErrorCode, HTTP3Error


def test_codes_are_those_of_the_rfc() -> None:
    known = {code.name.removeprefix("H3_"): int(code) for code in Known}

    assert {code.name: int(code) for code in ErrorCode}.items() <= known.items()


def test_error_tells_whose_it_is() -> None:
    error = HTTP3Error("so", ErrorCode.MESSAGE_ERROR, is_of_stream=True, setting="A")

    assert (error.reason, error.code, error.is_of_stream) == ("so", 0x10E, True)
    assert error.setting == "A"
