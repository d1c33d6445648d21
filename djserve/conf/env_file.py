"""A file of environment variables, as ``docker --env-file`` and dotenv files have it.

``NAME=value`` a line, with ``export`` in front if one likes; comments begin with ``#``.
In single quotes a value is taken as it is, in double quotes ``\\n``, ``\\t``, ``\\"``
and ``\\\\`` mean what they do in a shell; either may span lines. Nothing is expanded.
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import time
from typing import TYPE_CHECKING

from djserve.errors import ConfigError
from djserve.postponed import pattern
from djserve.system import READ, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

PATIENCE = 10.0
"""Seconds that whatever writes to a pipe may take."""

_PIECE = 64 * 1024

_ENTRY = pattern(
    r"""
    [^\S\n]* (?: export [^\S\n]+ )? (?P<name> [A-Za-z_][A-Za-z0-9_.]* )
    [^\S\n]* = [^\S\n]*
    (?: ' (?P<single> [^']* ) ' | " (?P<double> (?: [^"\\] | \\. )* ) "
      | (?P<plain> (?! ['"] ) [^\n]*? ) )
    [^\S\n]* (?: (?<! \S ) \# [^\n]* | (?<= ['"] ) \# [^\n]* )? (?: \n | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANK = pattern(r"[^\S\n]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = pattern(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def load_env_file(path: str, environ: MutableMapping[str, str]) -> None:
    """Add a file's variables to an environment, but for those that it has.

    Raises ConfigError for a file that cannot be read, and names a wrong line.
    """
    try:
        text = _read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([f"--env-file {path}: cannot be read: {reason}"]) from error
    # All lines are read before any counts.
    for name, value in dict(_read(path, text)).items():
        environ.setdefault(name, value)


def _read_text(path: str) -> str:
    descriptor = _open_pipe(path)
    data = read_regular(path) if descriptor is None else _read_pipe(descriptor)
    text = data.decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _open_pipe(path: str) -> int | None:
    """Open what a shell's ``<(command)`` stands for; None for anything else."""
    # Windows has pipes with names, and no poll.
    if not stat.S_ISFIFO(os.stat(path).st_mode) or not hasattr(select, "poll"):
        return None
    return os.open(path, READ)


def _read_pipe(descriptor: int) -> bytes:
    """Return what is written to a pipe until its end, and close it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    pieces: list[bytes] = []
    with open(descriptor, "rb", buffering=0) as pipe:
        while (left := deadline - time.monotonic()) > 0:
            # Without a writer a read would return the end at once.
            if not poll.poll(left * 1000):
                break
            piece = pipe.read(_PIECE)
            if piece == b"" and pieces:
                return b"".join(pieces)
            if piece == b"":
                raise OSError(
                    errno.EPIPE, "it is a FIFO, and nothing was written to it"
                )
            if piece is not None:
                pieces.append(piece)
    reason = f"it is a FIFO, and its end was not written within {PATIENCE:g} seconds"
    raise OSError(errno.ETIMEDOUT, reason)


def _read(path: str, text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        blank = _BLANK.match(text, position)
        if blank is not None:
            position = blank.end()
            continue
        entry = _ENTRY.match(text, position)
        if entry is None or "\0" in entry.group():
            line = text.count("\n", 0, position) + 1
            # Not the line itself: it may hold a secret.
            raise ConfigError(
                [f"--env-file {path}: line {line}: expected NAME=value, or a comment"]
            )
        yield entry["name"], _value(entry)
        position = entry.end()


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return _ESCAPE.sub(_unescape, entry["double"])
    return entry["plain"]


def _unescape(match: re.Match[str]) -> str:
    character = match.group(1)
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character in '"\\$' else match.group()
