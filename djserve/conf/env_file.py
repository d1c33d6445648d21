"""A file of environment variables, as ``docker --env-file`` and dotenv files have it.

``NAME=value`` a line, with ``export`` in front if one likes; comments begin with ``#``.
In single quotes a value is taken as it is, in double quotes ``\\n``, ``\\t``, ``\\"``
and ``\\\\`` mean what they do in a shell; either may span lines. Nothing is expanded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

_ENTRY = re.compile(
    r"""
    [^\S\n]* (?: export [^\S\n]+ )? (?P<name> [A-Za-z_][A-Za-z0-9_.]* )
    [^\S\n]* = [^\S\n]*
    (?: ' (?P<single> [^']* ) ' | " (?P<double> (?: [^"\\] | \\. )* ) "
      | (?P<plain> (?! ['"] ) [^\n]*? ) )
    [^\S\n]* (?: (?<! \S ) \# [^\n]* | (?<= ['"] ) \# [^\n]* )? (?: \n | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[^\S\n]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def load_env_file(path: str, environ: MutableMapping[str, str]) -> None:
    """Add a file's variables to an environment, but for those that it has.

    Raises ConfigError for a file that cannot be read, and names a wrong line.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([f"--env-file {path}: cannot be read: {reason}"]) from error
    # All lines are read before any counts.
    for name, value in dict(_read(path, text)).items():
        environ.setdefault(name, value)


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
