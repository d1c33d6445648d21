"""The project's ASGI application: found, imported, and given djserve's handler.

The project's ASGI module makes its application by ``get_asgi_application`` or by the
class itself, imported from anywhere, and may put anything around it: a router, another
framework, an agent's middleware. So the class is as always, but its instances become
djserve's before they have made any middleware: each middleware is made once.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.asgi import get_asgi_application

from djserve.errors import ConfigError
from djserve.handlers.channels import (
    find_http,
    parallel_consumers,
    refuse_websockets,
    replace_handler,
)
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.patches import OriginalHandler, refresh_patches
from djserve.server.loading import import_application

if TYPE_CHECKING:
    from djserve.asgi.types import Application
    from djserve.conf.schema import DjangoConfig


FALLBACK = "django.core.asgi.get_asgi_application"


class Project(NamedTuple):
    """An application, where it comes from, and what runs its HTTP requests.

    ``notes`` are lines for the start: what agents have done to the handler, or how to
    have djserve's.
    """

    application: Application
    path: str
    handler: str
    notes: tuple[str, ...] = ()


def load_project(config: DjangoConfig) -> Project:
    """Import the project's application and put in it what ``config`` asks for.

    ``handlers.configure`` comes first if ``config`` is not that of the settings.
    Raises ConfigError if it cannot be imported; if the project's own code raised,
    that is the error's cause.
    """
    path = find_application_path()
    if config.handler != "djserve":
        return Project(_import(path), path or FALLBACK, "Django's, as HANDLER says")
    with made_by_django() as made:
        application = _import(path)
    return _prepare(application, path or FALLBACK, made)


def _import(path: str | None) -> Application:
    if path is None:
        return cast("Application", get_asgi_application())
    module, _, attribute = path.rpartition(".")
    return import_application(module, attribute)


def find_application_path() -> str | None:
    """Return the application's dotted path, None if the project has none.

    ASGI_APPLICATION says it; else it is "application" in the module "asgi" nearest to
    the settings' module. Raises ConfigError if ASGI_APPLICATION is not a dotted path.
    """
    path = getattr(settings, "ASGI_APPLICATION", None)
    if path is None:
        return _find_beside_settings()
    if not isinstance(path, str) or not all(path.rpartition(".")):
        expected = 'a dotted path as in "mysite.asgi.application"'
        raise ConfigError([f"ASGI_APPLICATION: expected {expected}, got {path!r}"])
    return path


def _find_beside_settings() -> str | None:
    package = os.environ.get(ENVIRONMENT_VARIABLE, "").rpartition(".")[0]
    while package:
        if importlib.util.find_spec(f"{package}.asgi") is not None:
            return f"{package}.asgi.application"
        package = package.rpartition(".")[0]
    return None


def _prepare(
    application: Application, path: str, made: Sequence[ASGIHandler]
) -> Project:
    application, _ = replace_handler(application)
    http = find_http(application)
    patches = refresh_patches()
    notes = tuple(filter(None, [patches.describe()]))
    if not made and not isinstance(http, ASGIHandler):
        handler = "the project's own"
        notes = (_advise(http, path), *notes)
    elif patches.converses:
        handler = "Django's"
    else:
        handler = "djserve's"
    if isinstance(application, ASGIHandler):
        application = refuse_websockets(application)
    return Project(parallel_consumers(application), path, handler, notes)


def _advise(http: Any, path: str) -> str:
    """Return why djserve's handler is not in use, and what to write to have it."""
    if isinstance(http, OriginalHandler):
        kind = type(http)
        return (
            f"{kind.__module__}.{kind.__qualname__} is a subclass of Django's handler: "
            "derive it from djserve.handlers.ASGIHandler to use djserve's"
        )
    return (
        f"Importing {path} called no django.core.asgi.get_asgi_application(): if it "
        "has Django's handler, make it by djserve.handlers.get_asgi_application()"
    )


@contextmanager
def made_by_django() -> Iterator[list[ASGIHandler]]:
    """Make djserve's handler instead of Django's; gives those that were made.

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
        # If an agent has wrapped it by now, it stays below, and does nothing.
        if vars(kind)["__init__"] is __init__:
            kind.__init__ = original
