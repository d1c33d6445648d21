"""The project's ASGI application: found, imported, and given djserve's handler."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, NamedTuple, cast

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.asgi import get_asgi_application

from djserve.errors import ConfigError
from djserve.handlers.consumers import parallel_consumers, refuse_websockets
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.patches import refresh_patches
from djserve.handlers.replace import replace_handler
from djserve.server.loading import import_application

if TYPE_CHECKING:
    from djserve.asgi.types import Application
    from djserve.conf.schema import ServerConfig

FALLBACK = "django.core.asgi.get_asgi_application"


class Project(NamedTuple):
    """An application, where it comes from, and what runs its HTTP requests.

    ``notes`` are lines for the start, about what agents have done to the handler.
    """

    application: Application
    path: str
    handler: str
    notes: tuple[str, ...] = ()


def load_project(config: ServerConfig) -> Project:
    """Import the project's application and put in it what ``config`` asks for.

    ``handlers.configure`` comes first where ``config`` is not that of the settings.
    Raises ConfigError where it cannot be imported; where the project's own code raised,
    that is the error's cause.
    """
    path = find_application_path()
    if path is None:
        application = cast("Application", get_asgi_application())
        return _prepare(application, FALLBACK, config)
    module, _, attribute = path.rpartition(".")
    return _prepare(import_application(module, attribute), path, config)


def find_application_path() -> str | None:
    """Return the application's dotted path, None where the project has none.

    ASGI_APPLICATION says it; else it is "application" in the module "asgi" nearest to
    the settings' module. Raises ConfigError where ASGI_APPLICATION is no dotted path.
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


def _prepare(application: Application, path: str, config: ServerConfig) -> Project:
    if config.django.handler != "djserve":
        return Project(application, path, "Django's, as HANDLER says")
    application, is_replaced = replace_handler(application)
    handler = "djserve's" if is_replaced else "the project's own"
    notes: tuple[str, ...] = ()
    if is_replaced:
        patches = refresh_patches()
        if patches.converses:
            handler = "Django's"
        notes = tuple(filter(None, [patches.describe()]))
    if isinstance(application, ASGIHandler):
        application = refuse_websockets(application)
    return Project(parallel_consumers(application), path, handler, notes)
