"""A shell's command line as words, and words as a shell's command line.

Only what start commands are made of: quotes, backslashes, redirections and the
operators between commands; of Windows its paths, and how its shells continue a line.
What a shell would expand (``$PORT``, ``$(nproc)``) stays.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_NESTED = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
"""Parentheses, with as many in them as ``$((2 * $(nproc)))`` has."""

_TOKEN = re.compile(
    rf"""
    (?P<space>(?:[^\S\n]|\\(?:\r?\n|\Z)|(?<=\s)[`^]\r?\n)+)
    | (?P<comment>(?<![^\s;&|()])\#[^\n]*)
    | (?P<redirection>\d*(?:<<?|>>?)(?:&\d*-?)?\s*(?:[^\s;&|<>()]+)?)
    | (?P<word>(?:
        \${_NESTED}
        | %\(\w+\)
        | \$\{{[^}}]*\}}
        | `[^`]*`
        | "(?:\\.|[^"\\])*"
        | '[^']*'
        | \\.
        | [^\s"'`\\;&|<>()]
      )+)
    | (?P<operator>&&|\|\||[;&|()\n]|[<>])
    """,
    re.VERBOSE | re.DOTALL,
)
_EXPANSION = re.compile(r"[$`]")
_PLAIN = re.compile(r"(?:[\w@%+=:,./\[\]-]|\$\w+|\$\{\w+\})+")
# A backslash before a letter is needless in a shell, and separates folders elsewhere.
_WINDOWS_PATH = re.compile(
    r"(?:[A-Za-z]:|\.{1,2}|\\\\[\w.-]+)(?:\\[\w.][\w. ()-]*)+"
    r"|(?:[\w.-]+\\)*Scripts\\[\w.-]+",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"[\[\]]")


class Unreadable(ValueError):
    """A quote is not closed."""


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command of a line, with what stands before and after it."""

    before: str
    words: tuple[str, ...]
    after: str


def split_commands(line: str) -> list[Command]:
    """Return the commands of a line, in their order. Raises Unreadable."""
    commands: list[Command] = []
    words: list[str] = []
    tail = start = end = position = 0
    while position < len(line):
        token = _TOKEN.match(line, position)
        if token is None:
            raise Unreadable(f"a quote is not closed: {line[position:][:60]}")
        position = token.end()
        if token.lastgroup == "word" and not tail:
            if not words:
                start = token.start()
            words.append(_read(token[0]))
            end = position
        elif token.lastgroup in ("redirection", "comment"):
            # What follows a redirection belongs to what comes after, operators apart.
            tail = 1
        elif token.lastgroup == "operator":
            if words:
                commands.append(Command(line[:start], tuple(words), line[end:]))
            words, tail = [], 0
    if words:
        commands.append(Command(line[:start], tuple(words), line[end:]))
    return commands


def _read(raw: str) -> str:
    """Return what a shell makes of a word, but for its expansions."""
    if _WINDOWS_PATH.fullmatch(raw):
        return raw
    if _EXPANSION.search(raw) and not re.search(r"[\"'\\]", raw):
        return raw
    if re.search(r"\$\(|`|\$\{[^}]*[\"' ]", raw):
        return raw.strip('"')
    # Posix rules: a backslash that a double quote keeps is kept.
    return "".join(shlex.split(raw)) if raw not in ("''", '""') else ""


def read_list(text: str) -> object:
    """Return a list that is written as JSON or YAML has it, else the text."""
    if text.startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError):
                continue
            if isinstance(value, list):
                return value
        inside = text.strip().strip("[]")
        return [each.strip().strip("\"'") for each in inside.split(",")]
    return text


def join(words: Sequence[str]) -> str:
    """Return the words as a line of a shell, whose variables are still expanded."""
    return " ".join(map(quote, words))


def quote(word: str) -> str:
    """Return one word as a shell needs it."""
    if "\\" in word and _WINDOWS_PATH.fullmatch(word):
        return f'"{word}"' if re.search(r"[ ()]", word) else word
    if not _EXPANSION.search(word):
        # A bracket is a pattern only if a file has that name; [::1]:80 is an address.
        return word if _is_address(word) else shlex.quote(word)
    if _PLAIN.fullmatch(word) and not _BRACKET.search(word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def _is_address(word: str) -> bool:
    return bool(re.fullmatch(r"\[[0-9a-fA-F:.]*\](:\d+)?", word))
