"""What operating systems have under different names, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from djserve.system import READ, _seek_and_read, read_at


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
