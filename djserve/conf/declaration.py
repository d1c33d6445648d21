"""How settings are declared: a class of values, each with what is told of it."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


class Values:
    """What a dataclass of settings has beside its constructor.

    ``dataclass`` would compile these again for each class, which takes longer than all
    else of the declarations: ``eq=False, repr=False`` leaves that out.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        names = [each.name for each in fields(self)]  # type: ignore[arg-type]
        pairs = zip(names, self._values(), strict=True)
        text = ", ".join(f"{name}={value!r}" for name, value in pairs)
        return f"{type(self).__qualname__}({text})"

    def _values(self) -> tuple[Any, ...]:
        names = [each.name for each in fields(self)]  # type: ignore[arg-type]
        return tuple(getattr(self, name) for name in names)


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
    """Declare a setting: a dataclass field with what the generators need in addition.

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
