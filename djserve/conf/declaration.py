"""How a setting is declared: a dataclass field that carries what is told of it."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    aliases: tuple[str, ...] = (),
    minimum: float | None = None,
    choices: tuple[str, ...] = (),
    metavar: str = "",
    syntax: str = "",
    none_word: str = "",
    unit: str = "",
) -> Any:
    """Declare a setting: a dataclass field with what the generators need beside it.

    ``aliases`` are flags beside the one derived from the name: short ones and those
    that Daphne has. ``minimum`` is inclusive.
    ``syntax`` names the rule in ``conf.syntax`` that the text must obey.
    ``unit`` is "bytes" for a size, which may be given as "64KiB".
    ``none_word`` stands for None on the command line, if that cannot be typed.
    """
    metadata = {
        "help": help,
        "aliases": aliases,
        "minimum": minimum,
        "choices": choices,
        "metavar": metavar,
        "syntax": syntax,
        "none_word": none_word,
        "unit": unit,
    }
    return field(default=default, metadata=metadata)
