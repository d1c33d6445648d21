"""Names that do not exist -> the ones that were probably meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NoReturn


def suggest(names: Iterable[str], known: Collection[str]) -> str:
    """Return "; did you mean 'this', 'that'?", or "" if no known name is close."""
    # Long to import, for a mistake.
    import difflib

    close = [
        repr(match)
        for name in names
        for match in difflib.get_close_matches(name, known, n=1)
    ]
    return f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""


def suggest_flags(parser: argparse.ArgumentParser) -> None:
    """Let a parser's errors name the flags that were probably meant.

    Takes parsers of any class: those of Django's commands are made by Django.
    """
    parse, report = parser.parse_known_args, parser.error
    unknown: list[str] = []

    def parse_known_args(args: Sequence[str] | None = None, *rest: Any) -> Any:
        unknown[:] = _find_unknown(parser, sys.argv[1:] if args is None else args)
        return parse(args, *rest)

    def error(message: str) -> NoReturn:
        report(message + suggest(unknown, _long_flags(parser)))

    parser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]
    parser.error = error  # type: ignore[method-assign]


def _find_unknown(
    parser: argparse.ArgumentParser, args: Sequence[str]
) -> Iterator[str]:
    """Yield the flags that the parser does not have, spelt as flags are."""
    known = _flags_of(parser)
    for text in args:
        if text == "--":
            return
        flag = text.partition("=")[0]
        if not text.startswith("--"):
            continue
        # argparse takes the beginning of a flag for the flag.
        if not any(each.startswith(flag) for each in known):
            yield flag.replace("_", "-").lower()


def _long_flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for flag in _flags_of(parser) if flag.startswith("--")]


def _flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the flags of a parser and of its commands."""
    flags = list(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                flags += _flags_of(command)
    return flags
