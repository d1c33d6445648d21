from __future__ import annotations

from dataclasses import dataclass

import pytest

from djserve.conf.catalogue import _read_group
from djserve.conf.declaration import setting


@dataclass(frozen=True, kw_only=True)
class Cooking:
    """Cooking"""

    pot_size: int = setting(3, "Litres.", aliases=("-P", "--litres"), minimum=1)
    spices: tuple[str, ...] = setting((), "More of them.", syntax="field-name")


def test_declared_settings_are_fields_with_defaults() -> None:
    assert Cooking() == Cooking(pot_size=3, spices=())
    assert Cooking(pot_size=4).pot_size == 4


def test_declaration_is_read_back_with_its_flags_and_rules() -> None:
    size, spices = _read_group("cooking", Cooking).settings

    assert (size.key, size.default, size.minimum) == ("POT_SIZE", 3, 1)
    assert size.flags == ("-P", "--pot-size", "--litres")
    assert (spices.kind, spices.syntax) == (tuple, "field-name")
    assert spices.flags == ("--spices",)


def test_declaration_without_help_is_refused() -> None:
    with pytest.raises(TypeError, match="help"):
        setting(3)  # type: ignore[call-arg]
