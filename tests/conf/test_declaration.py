from __future__ import annotations

import argparse

import pytest

from djserve.conf.catalogue import _read_group
from djserve.conf.declaration import setting
from djserve.conf.options import _add_setting
from djserve.conf.parser import _Reading
from djserve.values import Values


class Cooking(Values, kw_only=True):
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


def read(*arguments: str) -> _Reading:
    """Return what the declared settings make of a command line."""
    parser = argparse.ArgumentParser()
    reading = _Reading("COOKING")
    reading._settings = {each.key: each for each in _read_group("", Cooking).settings}
    for each in reading._settings.values():
        _add_setting(parser, parser.add_argument_group(), each)
    given = vars(parser.parse_args(arguments))
    for key, each in reading._settings.items():
        if each.name in given:
            reading.take(key, given[each.name])
    return reading


def test_declared_alias_sets_the_field() -> None:
    reading = read("--litres", "5", "--spices", "Salt")

    assert reading.problems == []
    assert Cooking(**reading.values) == Cooking(pot_size=5, spices=("Salt",))


def test_declared_rules_are_applied_to_what_is_given() -> None:
    assert read("-P", "0", "--spices", "a b").problems == [
        "-P: expected a whole number from 1 up, got '0'",
        "--spices: expected the name of a header, got 'a b'",
    ]
