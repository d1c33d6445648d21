"""Where the access log's lines go: a file, standard output or a logger.

Lines go to a file in batches; the loop is asked for the time to write them.
"""

# What a line costs, and what it must not do
#
# A write for each request would be a system call for each, so lines wait in a list and
# are joined into one write. The list is bounded by their number, their size and time,
# and is also written when the process exits; a process that is killed loses the lines
# of a tenth of a second.
#
# The log must not stop the server. A file on a disk takes what it is given. A pipe does
# not, if its reader is slow: a blocking write would then stop the event loop, and
# standard output often is a pipe. So nothing is written that would block, and what is
# left waits, up to BACKLOG_LIMIT. Beyond that lines are dropped, which is reported once
# and not for each line, since the report may go the same way.
#
# Lines stay whole. All workers write to the same file: a file is opened for appending,
# and a pipe takes up to PIPE_BUF bytes in one piece, so larger batches are cut at the
# ends of lines. If a write fails in the middle of a line, the rest of it is lost, and
# the next write begins with a line's end.

from __future__ import annotations

import atexit
import errno
import logging
import os
import select
import stat
from typing import IO, TYPE_CHECKING, Any

from djserve.errors import ConfigError
from djserve.instrumentation.access_line import encode
from djserve.instrumentation.pipes import is_writable, may_be_full
from djserve.system import WRITE, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable

    CallLater = Callable[[float, Callable[[], None]], Any]

STDOUT = 1

FLUSH_INTERVAL = 0.1
# Parts of lines, one or two each: some 32 KiB. By 4 KiB the writes cost three per cent
# of a hello, by 64 KiB no less than by 32 (benchmark: access_log_cost).
BATCH_LIMIT = 512
# What waits is written before a longer part, so that a batch has a bound in bytes too.
PART_SIZE_LIMIT = 1024
# Lines kept for a reader that is too slow; more are dropped and counted.
BACKLOG_LIMIT = 1024 * 1024

# Larger writes to a pipe may be mixed with those of others.
_PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)

error_logger = logging.getLogger("djserve.error")


class LineLogger:
    """Lines to a logger, at level INFO."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.pending: list[bytes] = []

    def write(self, line: str) -> None:
        self._logger.info(line[:-1])

    def see_to_pending(self) -> None:
        """Log what was put into ``pending``, at once: it is one line."""
        line = b"".join(self.pending)
        self.pending.clear()
        self.write(line.decode("ascii"))

    def flush(self) -> None:
        """Do nothing: a logger's handlers flush."""

    reopen = close = flush


class LineFile:
    """Lines to a file or standard output, in one write for many.

    A line is on its way after FLUSH_INTERVAL seconds, after BATCH_LIMIT parts, or when
    the process exits, whichever is first. A write that fails is reported once until
    one succeeds again; its lines are lost and nothing is raised. A line that it has
    cut is ended before the next one.
    """

    def __init__(self, path: str, call_later: CallLater) -> None:
        self._path = path
        self._call_later = call_later
        # Whoever adds a line itself, in one or several parts, calls ``see_to_pending``
        # after the first one and when BATCH_LIMIT is reached, and ``flush`` before a
        # long part.
        self.pending: list[bytes] = []
        self._rest = b""
        self._is_scheduled = False
        self._is_failing = False
        self._is_cut = False
        try:
            self._open()
        except OSError as exc:
            problem = f"ACCESS_LOG {path!r} cannot be opened: {exc.strerror}"
            raise ConfigError([problem]) from exc
        atexit.register(self.flush)

    def write(self, line: str) -> None:
        data = encode(line)
        if len(data) > PART_SIZE_LIMIT:
            self.flush()
        self.pending.append(data)
        self.see_to_pending()

    def see_to_pending(self) -> None:
        """Write ``pending`` out if it is much; else see that it is done in time."""
        if len(self.pending) >= BATCH_LIMIT:
            self.flush()
        if (self.pending or self._rest) and not self._is_scheduled:
            self._is_scheduled = True
            self._call_later(FLUSH_INTERVAL, self._flush_in_time)

    def flush(self) -> None:
        """Write out what waits, as far as the file takes it without blocking."""
        if self._file.closed:
            self.pending.clear()
            return
        data = b"".join([self._rest, *self.pending])
        self.pending.clear()
        if data and self._is_failing and self._has_cut_line():
            data = b"\n" + data
        try:
            self._rest = self._write_all(data) if data else b""
        except OSError as exc:
            self._rest = b""
            self._report_failure(f"cannot be written: {exc.strerror}")
            return
        if len(self._rest) > BACKLOG_LIMIT:
            # Cut at a line's end, so that what follows is whole lines.
            self._rest = self._rest[: self._rest.index(b"\n") + 1]
            self._report_failure("its reader is too slow")
        elif data and not self._rest:
            self._is_failing = False

    def reopen(self) -> None:
        """Open the path again; the old file stays in use if that fails."""
        self.flush()
        old_file = self._file
        try:
            self._open()
        except OSError as exc:
            self._report_failure(f"cannot be reopened: {exc.strerror}")
            return
        _close(old_file)

    def close(self) -> None:
        """Write out what waits and close the file."""
        self.flush()
        _close(self._file)
        atexit.unregister(self.flush)

    def _open(self) -> None:
        self._file = _open(self._path)
        # Several processes may write to one pipe: what is longer they may mix (POSIX
        # write). To a file that all append to, each write is one.
        mode = os.fstat(self._file.fileno()).st_mode
        self._is_regular = self._path != "-" and stat.S_ISREG(mode)
        is_pipe = may_be_full(self._file.fileno())
        self._piece_size = _PIPE_BUF if is_pipe else None

    def _write_all(self, data: bytes) -> bytes:
        """Write what the file takes and return the rest; raises OSError."""
        view, start, size = memoryview(data), 0, len(data)
        while start < size:
            end = size
            if self._piece_size is not None:
                if not is_writable(self._file.fileno()):
                    break
                end = _find_end(data, start, self._piece_size)
            # None: a non-blocking pipe is full (io.RawIOBase.write).
            try:
                written: int | None = self._file.write(view[start:end])
            except OSError:
                # A full disk takes what there is room for, then nothing.
                if start:
                    self._is_cut = data[start - 1 : start] != b"\n"
                raise
            if not written:
                break
            start += written
        if start:
            self._is_cut = False
        return data[start:]

    def _has_cut_line(self) -> bool:
        """Return whether the last line is not whole: ours, or another process's."""
        if self._is_regular:
            return _ends_within_line(self._path)
        return self._is_cut

    def _flush_in_time(self) -> None:
        self._is_scheduled = False
        self.flush()
        if self._rest and not self._file.closed:
            self._is_scheduled = True
            self._call_later(FLUSH_INTERVAL, self._flush_in_time)

    def _report_failure(self, reason: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            error_logger.error(
                "Access log %s: %s; lines are lost until it recovers",
                self._path,
                reason,
            )


def _open(path: str) -> IO[bytes]:
    if path == "-":
        # A file object besides the descriptor: its end leaves standard output open.
        return open(STDOUT, "wb", buffering=0, closefd=False)
    try:
        descriptor = os.open(path, WRITE | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            reason = _explain_no_reader(os.stat(path).st_mode)
            raise OSError(error.errno, reason) from error
        raise
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a block device")
    return open(descriptor, "ab", buffering=0)


def _explain_no_reader(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "it is a FIFO that no process reads"
    if stat.S_ISSOCK(mode):
        return 'it is a socket; "-" stands for standard output'
    return "there is no such device"


def _ends_within_line(path: str) -> bool:
    try:
        with open(open_regular(path), "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        # Empty, or not ours to read.
        return False


def _close(file: IO[bytes]) -> None:
    try:
        file.close()
    except OSError:
        # Nothing of ours is buffered in it, and the descriptor is gone either way.
        pass


def _find_end(data: bytes, start: int, size: int) -> int:
    """Return where the last line ends that is complete within ``size`` bytes."""
    if len(data) - start <= size:
        return len(data)
    end = data.rfind(b"\n", start, start + size)
    if end < 0:
        # A line that is longer by itself.
        end = data.index(b"\n", start)
    return end + 1
