"""Content that waits: any chunks in, any pieces out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from djserve.protocols.http2.content import ContentQueue


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_content_comes_out_whole_and_in_order(
    chunks: list[bytes], limits: list[int]
) -> None:
    queue = ContentQueue()
    for chunk in chunks:
        queue.append(chunk)
    taken: list[bytes | memoryview] = []
    while queue.size:
        limit = limits[len(taken) % len(limits)]
        taken.append(queue.take(limit))
        assert 0 < len(taken[-1]) <= limit

    assert b"".join(taken) == b"".join(chunks)


def test_small_chunks_share_a_piece() -> None:
    queue = ContentQueue()
    for chunk in (b"ab", b"cd", b"ef"):
        queue.append(chunk)

    assert [queue.take(5), queue.take(5), queue.size] == [b"abcde", b"f", 0]


def test_whole_chunk_is_not_copied() -> None:
    queue = ContentQueue()
    chunk = bytes(100)
    queue.append(chunk)

    assert queue.take(100) is chunk


def test_parts_of_a_chunk_are_not_copied() -> None:
    queue = ContentQueue()
    chunk = bytes(100)
    queue.append(chunk)
    parts = [queue.take(60), queue.take(60)]

    assert [len(part) for part in parts] == [60, 40]
    assert all(isinstance(part, memoryview) and part.obj is chunk for part in parts)


def test_cleared_queue_is_empty() -> None:
    queue = ContentQueue()
    queue.append(b"abc")
    queue.take(1)
    queue.clear()
    queue.append(b"d")

    assert (queue.size, queue.take(9)) == (1, b"d")
