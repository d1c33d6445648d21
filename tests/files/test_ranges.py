"""Which part of a representation a Range field asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.files.ranges import choose_part

SIZE = 100
NOTHING = range(0)

PARTS: list[tuple[bytes, range | None]] = [
    (b"bytes=0-", range(100)),
    (b"bytes=0-0", range(1)),
    (b"bytes=10-19", range(10, 20)),
    (b"BYTES=10-19", range(10, 20)),
    (b"bytes= 10 - 19 ", range(10, 20)),
    (b"bytes=99-", range(99, 100)),
    (b"bytes=90-1000", range(90, 100)),
    (b"bytes=-1", range(99, 100)),
    (b"bytes=-1000", range(100)),
    (b"bytes=100-, 0-1", range(2)),
    (b"bytes=100-", NOTHING),
    (b"bytes=100-200", NOTHING),
    (b"bytes=-0", NOTHING),
    (b"bytes=9-5", NOTHING),
    (b"bytes=-", NOTHING),
    (b"bytes=a-b", NOTHING),
    (b"bytes=1", NOTHING),
    (b"bytes=0-1,", NOTHING),
    (b"bytes=0-1;", NOTHING),
    (b"bytes=+1-2", NOTHING),
    (b"bytes=1_0-2_0", NOTHING),
    (b"bytes=0-" + b"9" * 5000, NOTHING),
    (b"bytes=0-1,3-4", None),
    (b"bytes=0-1,0-1", None),
    (b"bytes=", None),
    (b"bytes", None),
    (b"", None),
    (b"items=0-1", None),
    (b"bytes 0-1", None),
]


@pytest.mark.parametrize(("wanted", "part"), PARTS)
def test_field_asks_for_a_part(wanted: bytes, part: range | None) -> None:
    assert choose_part(wanted, SIZE) == part


def test_empty_file_is_sent_whole() -> None:
    assert choose_part(b"bytes=0-", 0) is None


@given(st.binary(max_size=20), st.integers(0, 50))
def test_any_field_asks_for_a_part_that_exists(text: bytes, size: int) -> None:
    part = choose_part(b"bytes=" + text, size)

    assert part is None or not part or (0 <= part.start < part.stop <= size)
