"""Put djserve's handler where a project's application has Django's."""

from __future__ import annotations

import sys
from typing import Any

from djserve.handlers.chain import may_be_made_twice
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.originals import OriginalHandler


def replace_handler(application: Any) -> tuple[Any, bool]:
    """Return the application with djserve's handler in the place of Django's.

    The second value says whether there was one to replace: the application is exactly
    Django's ``ASGIHandler``, or exactly a ``ProtocolTypeRouter`` whose "http" entry is.
    Subclasses and wrapped applications may rely on what Django's does and are left as
    they are. What is given is never changed.
    """
    if type(application) is OriginalHandler:
        return _replace(application), True
    http = find_http(application)
    if type(http) is not OriginalHandler:
        return application, False
    mapping = {**application.application_mapping, "http": _replace(http)}
    return type(application)(mapping), True


def _replace(handler: OriginalHandler) -> ASGIHandler:
    # It has made its middleware already.
    return ASGIHandler() if may_be_made_twice() else ASGIHandler.take_over(handler)


def find_http(application: Any) -> Any:
    """Return what answers HTTP requests: a router's entry, or the application itself.

    None where a router has no such entry.
    """
    # Where nothing has imported channels.routing, nothing is a router.
    routing = sys.modules.get("channels.routing")
    if routing is None or type(application) is not routing.ProtocolTypeRouter:
        return application
    return application.application_mapping.get("http")
