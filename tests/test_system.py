"""What operating systems have under different names or not at all, and whole files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from djserve import system
from djserve.system import (
    READ,
    WRITE,
    _seek_and_read,
    open_file_limit,
    open_regular,
    read_at,
    read_regular,
    replace_file,
)
from tests.support.odd_files import KINDS, make_odd_file


def test_reading_at_an_offset_without_pread_does_the_same(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123\r\n6789")
    descriptor = os.open(path, READ)
    try:
        os.lseek(descriptor, 2, os.SEEK_SET)
        for read in (read_at, _seek_and_read):
            assert read(descriptor, 5, 3) == b"3\r\n67"
            assert read(descriptor, 5, 8) == b"89"
            assert read(descriptor, 5, 20) == b""
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 2
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("is_durable", [False, True])
def test_file_has_its_name_once_it_is_complete(
    is_durable: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[tuple[str, bytes, bytes, int]] = []

    def prepare(hidden: str) -> None:
        new = Path(hidden)
        mode = stat.S_IMODE(new.stat().st_mode)
        seen.append((new.name[:6], new.read_bytes(), path.read_bytes(), mode))
        new.chmod(0o644)

    replace_file(path, b"new", prepare, is_durable=is_durable)

    assert seen == [(".file.", b"new", b"old", 0o600)]
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_failed_replacement_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(hidden: str) -> None:
        raise LookupError(hidden)

    with pytest.raises(LookupError):
        replace_file(path, b"new", fail)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.e2e
def test_process_ends_at_once_with_what_it_has_printed() -> None:
    code = (
        "import atexit; from djserve.system import end_process; "
        "atexit.register(print, 'late'); print('early'); end_process(7)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stdout) == (7, "early\n")


WHILE_WRITING = """
import io, signal, sys
from djserve.system import end_process

class Raw(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        signal.raise_signal(signal.SIGTERM)
        return len(data)

signal.signal(signal.SIGTERM, lambda *_: end_process(7))
sys.stdout = io.TextIOWrapper(io.BufferedWriter(Raw()))
print("text", flush=True)
"""

WHILE_BLOCKED = """
import select, sys, threading, time
from djserve.system import end_process

def write():
    while True:
        sys.stdout.buffer.write(b"x" * 65536)

threading.Thread(target=write, daemon=True).start()
# Nothing reads the pipe: once it is full, the thread waits in a write.
while select.select([], [1], [], 0)[1]:
    time.sleep(0.01)
end_process(7)
"""


@pytest.mark.e2e
@pytest.mark.skipif(os.name == "nt", reason="select knows no pipes there")
@pytest.mark.parametrize("code", [WHILE_WRITING, WHILE_BLOCKED], ids=["signal", "pipe"])
def test_stream_in_use_holds_up_no_end(code: str) -> None:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as ends:
        assert ends.wait(60) == 7


@pytest.mark.e2e
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [READ, WRITE | os.O_CREAT])
def test_what_is_no_regular_file_is_not_opened(
    flags: int, kind: str, tmp_path: Path
) -> None:
    path = make_odd_file(tmp_path, kind)

    with pytest.raises(OSError, match=KINDS[kind]):
        open_regular(path, flags)


def test_regular_files_and_the_null_device_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    link = tmp_path / "link"
    link.symlink_to(path)

    assert read_regular(link) == b"content"
    assert read_regular(os.devnull) == b""
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "missing")


def test_missing_file_is_made_on_request(tmp_path: Path) -> None:
    path = tmp_path / "new"
    os.close(open_regular(path, WRITE | os.O_CREAT, 0o600))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("descriptors", "files"), [(None, None), (64, 8), (1024, 25), (1_000_000, 25_000)]
)
def test_few_files_stay_open_for_clients_that_do_not_read(
    descriptors: int | None, files: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "descriptor_limit", lambda: descriptors)

    assert open_file_limit() == files
