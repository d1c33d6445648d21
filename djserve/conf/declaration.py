"""How a setting is declared: a field of ``Values``, with what is told of it."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    aliases: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    metavar: str = "",
    syntax: str = "",
    none_word: str = "",
    unit: str = "",
) -> Any:
    """Declare a setting: a field with what the generators need in addition.

    ``aliases`` are flags in addition to the one derived from the name: short ones and
    those that Daphne has. ``minimum`` and ``maximum`` are inclusive.
    ``syntax`` names the rule in ``conf.syntax`` that the text must obey.
    ``unit`` is "bytes" for a size, which may be given as "64KiB".
    ``none_word`` stands for None on the command line, if that cannot be typed.
    """
    metadata = {
        "help": help,
        "aliases": aliases,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "metavar": metavar,
        "syntax": syntax,
        "none_word": none_word,
        "unit": unit,
    }
    return field(default=default, metadata=metadata)
