"""Have Django's ``get_asgi_application`` make djserve's handler for a while.

The project's ASGI module makes its application with that function and may put anything
around it: a router, another framework, an agent's middleware. In ``django.core.asgi``,
where the function looks its class up, another maker stands for the class meanwhile; so
it does not matter who has imported the function, when, or wrapped it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core import asgi as django_asgi
from django.core.handlers import asgi

from djserve.handlers.handler import ASGIHandler


class Maker:
    """Stands for Django's class, whatever it is used for, while it is open.

    A call makes djserve's handler, which is kept in ``made``. Whoever has kept the
    maker beyond that gets Django's.
    """

    def __init__(self) -> None:
        self.made: list[ASGIHandler] = []
        self.is_open = True

    def __call__(self) -> asgi.ASGIHandler:
        if not self.is_open:
            return asgi.ASGIHandler()
        handler = ASGIHandler()
        self.made.append(handler)
        return handler

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        # A subclass may rely on what Django's class does.
        return (asgi.ASGIHandler,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, asgi.ASGIHandler)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, asgi.ASGIHandler)

    def __getattr__(self, name: str) -> Any:
        return getattr(asgi.ASGIHandler, name)


@contextmanager
def made_by_django() -> Iterator[list[ASGIHandler]]:
    """Make djserve's handler in the place of Django's; gives those that were made."""
    maker = Maker()
    namespace = vars(django_asgi)
    original = namespace["ASGIHandler"]
    # Where somebody has put another class there, it is left alone.
    if original is asgi.ASGIHandler:
        namespace["ASGIHandler"] = maker
    try:
        yield maker.made
    finally:
        maker.is_open = False
        if namespace["ASGIHandler"] is maker:
            namespace["ASGIHandler"] = original
