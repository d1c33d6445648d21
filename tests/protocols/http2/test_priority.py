"""The Priority field (RFC 9218 section 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.protocols.http2.priority import (
    DEFAULT_PRIORITY,
    Priority,
    parse_priority,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7, i", (7, True)),
        (b"i,u=1", (1, True)),
        (b" u=5 ,\ti=?1 ", (5, True)),
        (b"i=?0", (3, False)),
        (b"u=2, u=6", (6, False)),
        (b'u=1;x="a,b", foo=bar;q, i;y=1', (1, True)),
        (b"u=8", (3, False)),
        (b"u=-1", (3, False)),
        (b"u=1.0", (3, False)),
        (b"u", (3, False)),
        (b"i=1", (3, False)),
        (b"u=1,", (3, False)),
        (b"u=1 i", (3, False)),
        (b"U=1", (3, False)),
        (b"u=1, =", (3, False)),
        (b"u=0" + b" " * 300 + b", i", (3, False)),
    ],
)
def test_field(value: bytes, expected: tuple[int, bool]) -> None:
    assert parse_priority(value) == expected


@given(st.binary(max_size=40))
def test_any_field_gives_a_priority(value: bytes) -> None:
    assert 0 <= parse_priority(value).urgency <= 7


def test_default_is_of_middle_urgency() -> None:
    assert Priority(3, False) == DEFAULT_PRIORITY
