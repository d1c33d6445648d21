"""Streams of HTTP/2, for what HTTP/3 uses in the same way."""

from __future__ import annotations

import pytest

from tests.protocols.http2.conftest import Wire


@pytest.fixture(scope="session")
def open_wire() -> type[Wire]:
    """Give ``open_wire(**settings)``: a fresh connection of HTTP/2."""
    return Wire
