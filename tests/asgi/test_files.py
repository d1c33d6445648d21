"""Ranges of files: offset, count, position, and files that change meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from typing import TYPE_CHECKING, Any

import pytest

from djserve.asgi import files as module
from djserve.asgi.files import PIECE_SIZE, FileRange, NamedFile
from djserve.errors import ApplicationError
from tests.support.descriptors import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djserve.asgi.types import Message

CONTENT = b"0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


async def read_all(file: FileRange) -> list[bytes]:
    pieces = []
    while file.remaining:
        pieces.append(await file.read())
    assert await file.read() == b""
    return pieces


def read_path(path: Path) -> list[bytes]:
    async def read() -> list[bytes]:
        with await FileRange.open(str(path)) as file:
            return await read_all(file)

    return asyncio.run(read())


def read_part(path: Path, **message: Any) -> bytes:
    with path.open("rb", buffering=0) as opened:
        return _read_message({"file": opened, **message})


def _read_message(message: dict[str, Any]) -> bytes:
    file = FileRange.of_message(message)
    return b"".join(asyncio.run(read_all(file)))


def test_path_is_read_whole(path: Path) -> None:
    assert read_path(path) == [CONTENT]


def test_empty_file_has_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert read_path(tmp_path / "empty") == []


def test_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(2 * PIECE_SIZE + 1)
    (tmp_path / "large").write_bytes(content)
    pieces = read_path(tmp_path / "large")

    assert [len(piece) for piece in pieces] == [PIECE_SIZE, PIECE_SIZE, 1]
    assert b"".join(pieces) == content


def test_path_is_closed_afterwards(path: Path) -> None:
    before = open_descriptors()
    read_path(path)

    assert open_descriptors() <= before


def test_missing_path_raises_what_open_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_path(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.mkdir() if kind == "directory" else os.mkfifo(target)
    before = open_descriptors()

    with pytest.raises(ApplicationError, match="regular file"):
        read_path(target)
    assert open_descriptors() <= before


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, CONTENT),
        ({"offset": 0}, CONTENT),
        ({"offset": 3}, b"3456789"),
        ({"offset": 3, "count": 2}, b"34"),
        ({"count": 2}, b"01"),
        ({"offset": 8, "count": 99}, b"89"),
        ({"offset": 10}, b""),
        ({"offset": 99}, b""),
        ({"count": 0}, b""),
        ({"offset": None, "count": None}, CONTENT),
    ],
)
def test_part_is_read(path: Path, message: dict[str, Any], expected: bytes) -> None:
    assert read_part(path, **message) == expected


def test_without_offset_the_position_counts_and_moves(path: Path) -> None:
    with path.open("rb", buffering=0) as opened:
        opened.seek(2)
        first = _read_message({"file": opened, "count": 3})
        second = _read_message({"file": opened})

        assert (first, second) == (b"234", b"56789")
        assert opened.tell() == 10


def test_with_offset_the_position_stays(path: Path) -> None:
    with path.open("rb", buffering=0) as opened:
        opened.seek(2)
        _read_message({"file": opened, "offset": 5})

        assert opened.tell() == 2


@pytest.mark.parametrize("name", ["offset", "count"])
@pytest.mark.parametrize("value", [-1, "1", 1.0, True])
def test_other_offsets_and_counts_are_refused(
    path: Path, name: str, value: object
) -> None:
    with pytest.raises(ApplicationError, match=f"zerocopysend {name} must be an int"):
        read_part(path, **{name: value})


@pytest.mark.parametrize("file", [None, io.BytesIO(b"x"), b"x", 0, "path"])
def test_what_is_no_file_is_refused(file: Any) -> None:
    with pytest.raises(ApplicationError, match="open file"):
        FileRange.of_message({"file": file})


def test_closed_file_is_refused(path: Path) -> None:
    opened = path.open("rb")
    opened.close()

    with pytest.raises(ApplicationError, match="open file"):
        FileRange.of_message({"file": opened})


def test_message_without_a_file_is_refused() -> None:
    with pytest.raises(ApplicationError, match="open file"):
        FileRange.of_message({})


def test_device_is_refused() -> None:
    with (
        open("/dev/zero", "rb") as opened,
        pytest.raises(ApplicationError, match="regular file"),
    ):
        FileRange.of_message({"file": opened, "offset": 0, "count": 10})


def test_file_that_becomes_shorter_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(b"x" * (PIECE_SIZE + 10))

    async def read() -> None:
        with await FileRange.open(str(path)) as file:
            await file.read()
            os.truncate(path, 5)
            with pytest.raises(ApplicationError, match="became shorter"):
                await file.read()

    asyncio.run(read())


def test_file_that_grows_is_sent_as_it_was(path: Path) -> None:
    async def read() -> list[bytes]:
        with await FileRange.open(str(path)) as file:
            with path.open("ab") as writer:
                writer.write(b"more")
            return await read_all(file)

    assert asyncio.run(read()) == [CONTENT]


def test_skipped_file_is_not_read(path: Path) -> None:
    async def read() -> bytes:
        with await FileRange.open(str(path)) as file:
            file.skip()
            return await file.read()

    assert asyncio.run(read()) == b""


@pytest.mark.parametrize("more", [True, False])
def test_pieces_are_sent_one_at_a_time_and_the_last_says_so(
    tmp_path: Path, more: bool
) -> None:
    (tmp_path / "large").write_bytes(bytes(PIECE_SIZE + 1))
    sent: list[tuple[int, bool]] = []

    async def send(message: Message) -> None:
        sent.append((len(message["body"]), message["more_body"]))

    async def run() -> None:
        with await FileRange.open(str(tmp_path / "large")) as file:
            await file.send_pieces(send, more)

    asyncio.run(run())
    assert sent == [(PIECE_SIZE, True), (1, more)]


Pieces = list[bytes]


class SlowClient:
    """Take pieces, and count at each how often the file is open.

    ``before_second`` comes between the first two.
    """

    def __init__(
        self, path: Path, before_second: Callable[[], object] = lambda: None
    ) -> None:
        self.pieces: Pieces = []
        self.open: list[int] = []
        self._path = path
        self._before_second = before_second

    async def send(self, message: Message) -> None:
        self.pieces.append(message["body"])
        links = [link for _, link in open_descriptors()]
        self.open.append(links.count(str(self._path)))
        if len(self.pieces) == 1:
            self._before_second()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(2 * PIECE_SIZE + 1))
    return path


@pytest.fixture
def few_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_open_limit", lambda: 1)


def send_by_path(path: Path, client: SlowClient, beside: int = 1) -> None:
    """Send a file while others are held open."""

    async def run() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(beside):
                stack.enter_context(await FileRange.open(str(path)))
            with await FileRange.open(str(path)) as file:
                await file.send_pieces(client.send, False)

    asyncio.run(run())


def test_file_is_closed_between_pieces_if_many_are_open(
    large: Path, few_may_be_open: None
) -> None:
    alone, third = SlowClient(large), SlowClient(large)
    send_by_path(large, alone, beside=0)
    send_by_path(large, third, beside=2)

    assert b"".join(alone.pieces) == b"".join(third.pieces) == large.read_bytes()
    assert alone.open == [1, 1, 1]
    # The two beside it are open, and it is not.
    assert third.open == [2, 2, 2]
    assert FileRange.open_count == 0


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_closed_file_is_not_taken_for_another(
    large: Path, few_may_be_open: None, change: str
) -> None:
    def act() -> None:
        large.rename(large.with_name("elsewhere"))
        if change == "replaced":
            large.write_bytes(bytes(3 * PIECE_SIZE))

    client = SlowClient(large, act)
    expected = large.read_bytes()[:PIECE_SIZE]

    with pytest.raises((ApplicationError, FileNotFoundError)):
        send_by_path(large, client)
    assert client.pieces == [expected]
    assert FileRange.open_count == 0


def test_file_of_a_message_is_closed_only_if_it_can_be_found_again(
    large: Path, few_may_be_open: None
) -> None:
    async def run(file: Any) -> bytes:
        client = SlowClient(large)
        message = {"file": file, "offset": 5, "count": 2 * PIECE_SIZE}
        with (
            await FileRange.open(str(large)),
            FileRange.of_message(message) as part,
        ):
            await part.send_pieces(client.send, False)
        return b"".join(client.pieces)

    expected = large.read_bytes()[5 : 5 + 2 * PIECE_SIZE]
    with large.open("rb") as opened:
        assert asyncio.run(run(opened)) == expected
        assert not opened.closed
    with large.open("rb") as opened:
        named = NamedFile(opened, str(large), os.fstat(opened.fileno()))
        assert named.tell() == 0
        assert asyncio.run(run(named)) == expected
        assert opened.closed
    assert FileRange.open_count == 0
