"""The classes of Django's handlers, whatever stands under their names by now.

An agent may put its own subclass there, or a proxy. djserve's handlers derive from the
classes in Django's source; an instance of the agent's class stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from django.core.handlers import asgi, base

__all__ = ["OriginalBase", "OriginalHandler", "find_base", "find_handler"]

if TYPE_CHECKING:
    from django.core.handlers.asgi import ASGIHandler as OriginalHandler
    from django.core.handlers.base import BaseHandler as OriginalBase


def find_base(found: Any) -> Any:
    """Return the class with ``load_middleware`` that ``found`` comes from."""
    lineage = reversed(unwrap(found).__mro__)
    return next(kind for kind in lineage if "load_middleware" in vars(kind))


def find_handler(root: Any) -> Any:
    """Return the first class derived from ``root`` that is a handler for ASGI."""
    return next(kind for kind in _heirs(root) if "create_request" in vars(kind))


def _heirs(root: Any) -> Iterator[Any]:
    """Return all that derive from a class, each before those that derive from it."""
    kinds = root.__subclasses__()
    yield from kinds
    for kind in kinds:
        yield from _heirs(kind)


if not TYPE_CHECKING:
    OriginalBase = find_base(base.BaseHandler)
    # Imported here, so that it exists.
    assert asgi
    OriginalHandler = find_handler(OriginalBase)
