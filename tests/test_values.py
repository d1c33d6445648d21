"""Values that are declared as a frozen dataclass is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Any

import pytest

from djserve.values import Values


class Point(Values):
    """Where."""

    x: int
    y: int = 0

    @property
    def sum(self) -> int:
        return self.x + self.y


class Named(Point):
    name: str = ""


class Baking(Values, kw_only=True):
    heat: int = 180
    shelves: tuple[str, ...] = ()
    at: Point = field(default_factory=lambda: Point(1))


class Roasting(Values, kw_only=True):
    heat: int = 180
    shelves: tuple[str, ...] = ()
    at: Point = field(default_factory=lambda: Point(1))


def test_values_are_given_in_order_or_by_name() -> None:
    assert Point(1, 2) == Point(1, y=2) == Point(y=2, x=1)
    assert Point(1).y == 0
    assert (Point(3, 4).sum, Named(3, 4, "a").sum) == (7, 7)
    assert (Named(1, name="a").name, Named(1, 2, "b").name) == ("a", "b")


# As who is not told by a checker of types.
point: Any = Point
baking: Any = Baking


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: point(), "Point needs a value for 'x'"),
        (lambda: point(1, 2, 3), "Point takes 2 values, got 3"),
        (lambda: point(1, x=2), "Point got two values for 'x'"),
        (lambda: point(1, z=2), "Point has no field 'z'"),
        (lambda: baking(200), "Baking takes 0 values, got 1"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    make: Callable[[], Any], problem: str
) -> None:
    with pytest.raises(TypeError) as raised:
        make()

    assert str(raised.value) == problem


def test_values_are_compared_by_class_and_fields() -> None:
    assert Baking() == Baking(heat=180)
    assert Baking() != Baking(heat=200)
    assert Baking() != Roasting()
    assert {Baking(): 1}[Baking()] == 1


def test_values_are_shown_as_they_are_made() -> None:
    shown = repr(Baking(shelves=("low",)))

    assert shown == "Baking(heat=180, shelves=('low',), at=Point(x=1, y=0))"


def test_values_stay_as_they_are() -> None:
    one = Point(1)
    with pytest.raises(FrozenInstanceError, match="'y'"):
        one.y = 3  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="'y'"):
        del one.y
    with pytest.raises(FrozenInstanceError, match="'z'"):
        one.z = 3
    assert one == Point(1)


def test_functions_of_dataclasses_take_them() -> None:
    assert replace(Baking(), heat=3) == Baking(heat=3)
    assert [each.name for each in fields(Named)] == ["x", "y", "name"]
    assert [each.type for each in fields(Point)] == ["int", "int"]
    expected = {"heat": 180, "shelves": (), "at": {"x": 1, "y": 0}}
    assert asdict(Baking()) == expected


def test_values_can_be_copied_and_sent() -> None:
    given = Baking(at=Named(1, 2, "a"))

    assert copy.deepcopy(given) == given
    assert pickle.loads(pickle.dumps(given)) == given


def test_values_can_be_matched() -> None:
    match Named(1, 2, "a"):
        case Point(x, y):
            assert (x, y) == (1, 2)
        case _:
            pytest.fail("not matched")
