"""Have Django's ASGI handlers made as djserve's for a while.

The project's ASGI module makes its application by ``get_asgi_application`` or by the
class itself, imported from wherever, and may put anything around it: a router, another
framework, an agent's middleware. So the class is as always, but its instances become
djserve's before they have made any middleware: each middleware is made once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from djserve.handlers.handler import ASGIHandler
from djserve.handlers.originals import OriginalHandler


@contextmanager
def made_by_django() -> Iterator[list[ASGIHandler]]:
    """Make djserve's handler in the place of Django's; gives those that were made.

    A subclass is left alone: it may rely on what Django's class does.
    """
    made: list[ASGIHandler] = []
    is_open = True
    kind: Any = OriginalHandler
    original = kind.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if not is_open or self.__class__ is not OriginalHandler:
            original(self, *args, **kwargs)
            return
        handler: Any = self
        handler.__class__ = ASGIHandler
        ASGIHandler.__init__(handler)
        made.append(handler)

    kind.__init__ = __init__
    try:
        yield made
    finally:
        is_open = False
        # Where an agent has wrapped it by now, it stays below, and does nothing.
        if vars(kind)["__init__"] is __init__:
            kind.__init__ = original
