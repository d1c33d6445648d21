"""``djserve.run`` and ``djserve.serve``: an application served by a call.

Turns keyword arguments into a configuration, as the commands turn a command line into
one, and knows nothing of how it is served.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from djserve.conf.catalogue import DJANGO_SETTINGS
from djserve.conf.loader import are_settings_loaded, load, merge
from djserve.conf.parser import parse
from djserve.conf.process import become_worker
from djserve.errors import ConfigError
from djserve.files import open_table
from djserve.files.folders import describe_files
from djserve.responses import describe_compression
from djserve.server.banner import describe_webtransport
from djserve.server.launch import THREADS_TIMEOUT, exit_within, serve_embedded
from djserve.server.loading import accept_application, load_application
from djserve.server.redirect import describe_redirect
from djserve.supervisor import Loaded, Program
from djserve.supervisor import run as run_program
from djserve.supervisor.inheritance import is_child
from djserve.supervisor.roles import find_supervised

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.asgi.types import Application
    from djserve.conf.schema import ServerConfig
    from djserve.net.twisted.reactor import Reactor

SOURCE = "settings"


def run(application: Callable[..., Any] | str, settings: Mapping[str, Any]) -> int:
    """Do what ``djserve.run`` promises."""
    if _has_running_loop():
        raise RuntimeError(
            "djserve.run() was called inside a running event loop: there, await "
            "djserve.serve()"
        )
    mapping = _read_settings(settings)
    config = _configure(mapping)

    def load_program() -> Loaded:
        files = open_table(config.files)
        found = _find_application(application)
        notes = describe_files(files, config.files)
        notes += describe_compression(config.compression)
        notes += describe_redirect(config.redirect)
        notes += describe_webtransport(config.http3)
        return Loaded(found, notes, files=files)

    was_child = is_child()
    code = run_program(config, Program(load=load_program))
    if was_child:
        # What follows the call is the supervisor's to do, once.
        exit_within(THREADS_TIMEOUT, code)
        sys.exit(code)
    return int(code)


async def serve(
    application: Callable[..., Any] | str,
    settings: Mapping[str, Any],
    stop: asyncio.Event | None,
    on_ready: Callable[[list[str]], object] | None,
) -> None:
    """Do what ``djserve.serve`` promises."""
    config = _configure(_read_settings(settings))
    supervised = find_supervised(config.workers, config.processes)
    if supervised:
        raise ConfigError(
            [
                f"{SOURCE}[{key!r}]: expected a value for one process, which "
                "djserve.serve() runs in; djserve.run() starts others"
                for key in supervised
            ]
        )
    become_worker()
    files = open_table(config.files)
    found = _find_application(application)
    await serve_embedded(found, config, stop, on_ready, files)


def install_reactor() -> Reactor:
    """Do what ``djserve.install_reactor`` promises."""
    # Few applications have Twisted, which is long to import.
    from djserve.net.twisted.reactor import install

    return install()


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _find_application(application: Callable[..., Any] | str) -> Application:
    if isinstance(application, str):
        return load_application(application)
    return accept_application(application, repr(application))


def _read_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as keys of ``settings.DJSERVE``.

    Raises ConfigError for those that only ``manage.py runasgi`` can fulfil.
    """
    mapping = {name.upper(): value for name, value in settings.items()}
    problems = [
        f"{SOURCE}[{key!r}]: set it in settings.DJSERVE, for manage.py runasgi or "
        "djserve.handlers"
        for key in DJANGO_SETTINGS
        if key in mapping
    ]
    if problems:
        raise ConfigError(problems)
    return mapping


def _configure(mapping: Mapping[str, Any]) -> ServerConfig:
    """Return the configuration; ``mapping`` overrides the environment's variables."""
    if are_settings_loaded():
        return load(mapping)
    return parse(merge({}, mapping), source=SOURCE)
