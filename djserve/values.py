"""A frozen dataclass that is cheap to declare.

``dataclasses.dataclass`` compiles the methods of each class, half a millisecond for
each: more than all else that most modules do when they are imported. A subclass of
``Values`` shares them. Making an instance takes longer instead, so this is for what is
made at the start, as settings are, not with each request.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import MISSING, Field, FrozenInstanceError
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class Values:
    """Base of classes whose annotations are fields, as with a frozen dataclass.

    ``fields``, ``replace`` and ``asdict`` of the module dataclasses work for them. With
    ``kw_only=True`` in the class statement, values are given by name.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]] = {}
    _positional: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        found = dict(cls.__dataclass_fields__)
        for name, kind in inspect.get_annotations(cls).items():
            found[name] = _declare(cls, name, kind, kw_only=kw_only)
        cls.__dataclass_fields__ = found
        names = tuple(name for name, field in found.items() if not field.kw_only)
        cls._positional = names
        type.__setattr__(cls, "__match_args__", names)

    def __init__(self, *given: Any, **named: Any) -> None:
        fields = self.__dataclass_fields__
        if given:
            named = self._name(given, named)
        if not named.keys() <= fields.keys():
            unknown = ", ".join(map(repr, named.keys() - fields.keys()))
            raise TypeError(f"{type(self).__name__} has no field {unknown}")
        values = self.__dict__
        for name, field in fields.items():
            if name in named:
                values[name] = named[name]
            elif field.default is not MISSING:
                values[name] = field.default
            elif field.default_factory is not MISSING:
                values[name] = field.default_factory()
            else:
                raise TypeError(f"{type(self).__name__} needs a value for {name!r}")

    @classmethod
    def _name(cls, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return all values by name. Raises TypeError for too many, or one twice."""
        names = cls._positional
        if len(given) > len(names):
            count = len(names)
            raise TypeError(f"{cls.__name__} takes {count} values, got {len(given)}")
        for name in names[: len(given)]:
            if name in named:
                raise TypeError(f"{cls.__name__} got two values for {name!r}")
        return {**dict(zip(names, given, strict=False)), **named}

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        text = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__qualname__}({text})"


def _declare(cls: type[Values], name: str, kind: Any, *, kw_only: bool) -> Field[Any]:
    """Return a field, its default left at the class, as ``dataclass`` does it."""
    given = cls.__dict__.get(name, MISSING)
    if isinstance(given, Field):
        field = given
        if field.default is MISSING:
            delattr(cls, name)
        else:
            setattr(cls, name, field.default)
    else:
        field = dataclasses.field(default=given)
    field.name, field.type, field.kw_only = name, kind, kw_only
    # What dataclasses.fields looks for; there is no public way to set it.
    field._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
    return field
