"""Names of other packages that djserve uses without a promise that they stay.

The module that uses one requires it when it is imported. A release that has dropped it
so ends the start, or the first connection with such a protocol, with a line that says
what to install; and not with an AttributeError somewhere, or with nothing at all where
a method that djserve overrides is no longer called.
"""

from __future__ import annotations

import dis
from types import ModuleType

from djserve.errors import ConfigError


def require(
    package: str, owner: type | ModuleType, *names: str, oldest: str = ""
) -> None:
    """Raise ConfigError unless a module has the names, or a class has or sets them.

    A class may set them in its ``__init__``. ``oldest`` is the first release with all
    of them, if older ones are still in use.
    """
    missing = [name for name in names if not hasattr(owner, name)]
    if missing and isinstance(owner, type):
        kept = _find_set(owner.__init__)  # type: ignore[misc]
        missing = [name for name in missing if kept is not None and name not in kept]
    if missing:
        raise ConfigError([_describe(package, owner, missing, oldest)])


def require_calls(package: str, kind: type, *names: str) -> None:
    """Raise ConfigError unless methods of a class name what subclasses override."""
    codes = [
        getattr(each, "__code__", None)
        for base in kind.__mro__
        for each in vars(base).values()
    ]
    called = {name for code in codes if code for name in code.co_names}
    missing = [name for name in names if name not in called]
    # A compiled class does not tell.
    if missing and called:
        raise ConfigError([_describe(package, kind, missing)])


def _find_set(method: object) -> set[str] | None:
    """Return the attributes that a method sets; None for a compiled one."""
    if method is object.__init__:
        return set()
    code = getattr(method, "__code__", None)
    if code is None:
        return None
    found = dis.get_instructions(code)
    return {each.argval for each in found if each.opname == "STORE_ATTR"}


def _describe(
    package: str, owner: type | ModuleType, missing: list[str], oldest: str = ""
) -> str:
    # Only now: each start would pay for it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "(unknown version)"
    if isinstance(owner, type):
        place = f"{owner.__module__}.{owner.__qualname__}"
    else:
        place = owner.__name__
    return (
        f"{package} {installed} does not fit this djserve, which uses {place}'s "
        f"{', '.join(missing)}: install "
        f"{f'{package} {oldest}' if oldest else f'an older {package}'}, or a newer "
        "djserve"
    )
