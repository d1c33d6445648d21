from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.channels.frames import (
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    frame_size,
    pack_frame,
)

frames = st.builds(
    Frame,
    st.sampled_from(FrameKind),
    st.from_regex(r"[a-z.!]{1,99}", fullmatch=True),
    st.floats(0, 1e9),
    st.binary(max_size=300),
)


def read_all(reader: FrameReader) -> list[Frame]:
    return list(iter(reader.take, None))


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 400), max_size=20))
def test_frames_are_read_however_their_bytes_arrive(
    sent: list[Frame], cuts: list[int]
) -> None:
    data = b"".join(pack_frame(*frame) for frame in sent)
    reader = FrameReader(10_000)
    found: list[Frame] = []
    for cut in cuts:
        reader.feed(data[:cut])
        found += read_all(reader)
        data = data[cut:]
    reader.feed(data)

    assert found + read_all(reader) == sent


def test_size_of_a_frame_is_known_before_it_is_made() -> None:
    made = pack_frame(FrameKind.GROUP, "room.1", 0.0, b"12345")

    assert frame_size("room.1", b"12345") == len(made)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            pack_frame(FrameKind.GROUP, "g", 0.0, bytes(100)), id="over the limit"
        ),
        pytest.param(b"\0" * 64, id="of no kind"),
        pytest.param(
            pack_frame(FrameKind.GROUP, "g", 0.0, b"")[:14] + b"\xff", id="not ASCII"
        ),
        pytest.param(
            b"\0\0\0\0" + pack_frame(FrameKind.GROUP, "g", 0.0, b"")[4:],
            id="a name longer than the frame",
        ),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    reader = FrameReader(64)
    reader.feed(data)

    with pytest.raises(FrameError):
        reader.take()
