from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from djserve.errors import ConfigError
from djserve.instrumentation import access_file
from djserve.instrumentation.access_file import BATCH_LIMIT, PART_SIZE_LIMIT, LineFile
from tests.support.logs import own_records
from tests.support.odd_files import make_odd_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.instrumentation.conftest import Timers

# Batches


def test_lines_wait_for_one_write(lines: LineFile, path: Path, timers: Timers) -> None:
    lines.write("one\n")
    lines.write("two\n")
    assert (path.read_text(), len(timers.calls)) == ("", 1)

    timers.run()

    assert (path.read_text(), timers.calls) == ("one\ntwo\n", [])


def test_full_batch_is_written_at_once(lines: LineFile, path: Path) -> None:
    for _ in range(BATCH_LIMIT):
        assert path.read_text() == ""
        lines.write("x\n")

    assert path.read_text() == "x\n" * BATCH_LIMIT


def test_what_waits_is_written_before_a_long_line(lines: LineFile, path: Path) -> None:
    long = "x" * PART_SIZE_LIMIT + "\n"
    lines.write("one\n")
    lines.write(long)
    assert path.read_text() == "one\n"
    lines.write(long)
    assert path.read_text() == "one\n" + long


def test_next_line_is_scheduled_after_a_flush(lines: LineFile, timers: Timers) -> None:
    lines.write("one\n")
    timers.run()
    lines.write("two\n")

    assert len(timers.calls) == 1


def test_existing_file_is_appended_to(path: Path, timers: Timers) -> None:
    path.write_text("old\n")
    file = LineFile(str(path), timers.call_later)
    file.write("new\n")
    file.close()

    assert path.read_text() == "old\nnew\n"


def test_what_comes_after_close_is_dropped(
    lines: LineFile, path: Path, timers: Timers
) -> None:
    lines.write("one\n")
    lines.close()
    lines.write("two\n")
    timers.run()

    assert path.read_text() == "one\n"


@pytest.mark.e2e
def test_exit_of_the_process_writes_what_waits(path: Path) -> None:
    program = (
        "import sys\n"
        "from djserve.instrumentation.access_file import LineFile\n"
        "LineFile(sys.argv[1], lambda delay, call: None).write('last\\n')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=300)

    assert path.read_text() == "last\n"


# Rotation


def test_reopen_follows_a_rename(lines: LineFile, path: Path) -> None:
    lines.write("old\n")
    path.rename(path.with_suffix(".1"))
    lines.reopen()
    lines.write("new\n")
    lines.flush()

    assert path.with_suffix(".1").read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_failed_reopen_keeps_the_old_file(
    lines: LineFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    lines.reopen()
    lines.write("still here\n")
    lines.flush()

    assert path.with_suffix(".1").read_text() == "still here\n"
    assert "cannot be reopened: Is a directory" in caplog.text


# Failures


def test_full_disk_is_reported_once(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    file = LineFile("/dev/full", timers.call_later)
    for _ in range(3):
        file.write("lost\n")
        timers.run()
    file.close()

    assert [r.levelname for r in own_records(caplog)] == ["ERROR"]
    assert os.strerror(errno.ENOSPC) in caplog.text


FULL_DISK = """
import resource, signal, sys
from djserve.instrumentation.access_file import LineFile

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, cut = sys.argv[1:]
first, second = (LineFile(path, lambda delay, call: None) for _ in range(2))
limit(int(cut))
for file in (first, second):
    file.write("%s: one\\n" % "ab"[file is second])
    file.write("lost\\n")
    file.flush()
limit(resource.RLIM_INFINITY)
# The one that had nothing of its own cut is the first to write again.
for file in (second, first):
    file.write("%s: next\\n" % "ab"[file is second])
    file.flush()
"""


@pytest.mark.e2e
@pytest.mark.parametrize("cut", [*range(14)])
def test_line_after_one_that_a_full_disk_has_cut_starts_anew(
    path: Path, cut: int
) -> None:
    subprocess.run([sys.executable, "-c", FULL_DISK, path, str(cut)], check=True)

    text = path.read_text()
    assert text[:cut] == "a: one\nlost\nb: one\n"[: len(text[:cut])]
    assert text.endswith("\nb: next\na: next\n") or text == "b: next\na: next\n"
    assert "\n\n" not in text


def test_failure_is_reported_again_after_a_recovery(
    path: Path, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    path.symlink_to("/dev/full")
    file = LineFile(str(path), timers.call_later)
    for target in ("/dev/full", "/dev/null", "/dev/full"):
        path.unlink()
        path.symlink_to(target)
        file.reopen()
        file.write("line\n")
        file.flush()
    file.close()

    assert len(own_records(caplog)) == 2


def test_close_of_a_lost_descriptor_raises_nothing(path: Path, timers: Timers) -> None:
    file = LineFile(str(path), timers.call_later)
    os.close(file._file.fileno())
    file.close()

    assert file._file.closed


@pytest.fixture
def pipe(tmp_path: Path, timers: Timers) -> Iterator[tuple[LineFile, int]]:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = LineFile(str(fifo), timers.call_later)
    yield file, reader
    file.close()


def test_fifo_is_written_to_without_waiting_for_its_reader(
    pipe: tuple[LineFile, int], timers: Timers
) -> None:
    file, reader = pipe
    file.write("one\n")
    timers.run()

    assert os.read(reader, 100) == b"one\n"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("FIFO", "it is a FIFO that no process reads"),
        ("socket", "it is a socket"),
        ("directory", "Is a directory"),
    ],
)
def test_what_takes_no_lines_is_refused(
    kind: str, reason: str, tmp_path: Path, timers: Timers
) -> None:
    path = make_odd_file(tmp_path, kind)

    with pytest.raises(ConfigError, match=f"ACCESS_LOG .* cannot be opened: {reason}"):
        LineFile(str(path), timers.call_later)


def test_path_that_became_a_fifo_is_not_waited_for(
    lines: LineFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.unlink()
    os.mkfifo(path)
    lines.reopen()

    assert "cannot be reopened: it is a FIFO that no process reads" in caplog.text


def test_closed_pipe_raises_nothing(
    pipe: tuple[LineFile, int], timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    file, reader = pipe
    os.close(reader)
    file.write("lost\n")
    timers.run()

    assert "cannot be written: Broken pipe" in caplog.text


def test_slow_reader_gets_every_line_later(
    pipe: tuple[LineFile, int], timers: Timers
) -> None:
    file, reader = pipe
    sent = "".join(f"{number:0100d}\n" for number in range(2000))
    file.write(sent)
    got = b""
    while timers.calls:
        timers.run()
        got += os.read(reader, 1 << 20)
    os.close(reader)

    assert got.decode() == sent


def test_pipe_gets_whole_lines_that_the_system_keeps_together(
    timers: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With O_DIRECT each read returns what one write has written.
    reader, writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    monkeypatch.setattr(access_file, "STDOUT", writer)
    file = LineFile("-", timers.call_later)
    lines = [f"{number:0{number}d}\n" for number in (*range(1, 200), 5000, 7)]
    for line in lines:
        file.write(line)
    file.close()
    os.close(writer)
    pieces = list(iter(lambda: os.read(reader, 1 << 16), b""))
    os.close(reader)

    assert b"".join(pieces).decode() == "".join(lines)
    # The system cuts the line that is longer, and nothing shares its pieces.
    assert [len(piece) for piece in pieces[-3:]] == [4096, 905, 8]
    assert all(piece.endswith(b"\n") for piece in pieces[:-3])
    assert len(pieces) < 12


def test_stuck_reader_loses_lines_but_never_half_a_line(
    pipe: tuple[LineFile, int], caplog: pytest.LogCaptureFixture
) -> None:
    file, reader = pipe
    for _ in range(4):
        file.write(("x" * 99 + "\n") * 6000)
        file.flush()
    got = b""
    while file._rest:
        got += os.read(reader, 1 << 20)
        file.flush()
    got += os.read(reader, 1 << 20)
    os.close(reader)

    assert set(got.decode().splitlines()) == {"x" * 99}
    assert [r.getMessage().split(": ")[1][:18] for r in own_records(caplog)] == [
        "its reader is too "
    ]
