"""Names of other packages that djserve uses without a promise that they stay.

The module that uses one requires it when it is imported. A release that has dropped it
so ends the start, or the first connection with such a protocol, with a line that says
what to install; and not with an AttributeError somewhere, or with nothing at all where
a method that djserve overrides is no longer called.
"""

from __future__ import annotations

import dis

from djserve.errors import ConfigError


def require(package: str, kind: type, *names: str) -> None:
    """Raise ConfigError unless a class, or its ``__init__``, has or sets the names."""
    missing = [name for name in names if not hasattr(kind, name)]
    if missing:
        kept = _find_set(kind.__init__)  # type: ignore[misc]
        missing = [name for name in missing if kept is not None and name not in kept]
    if missing:
        raise ConfigError([_describe(package, kind, missing)])


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
    code = getattr(method, "__code__", None)
    if code is None:
        return None
    found = dis.get_instructions(code)
    return {each.argval for each in found if each.opname == "STORE_ATTR"}


def _describe(package: str, kind: type, missing: list[str]) -> str:
    # Only now: each start would pay for it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "(unknown version)"
    return (
        f"{package} {installed} does not fit this djserve, which uses "
        f"{kind.__module__}.{kind.__qualname__}'s {', '.join(missing)}: install an "
        f"older {package}, or a newer djserve"
    )
