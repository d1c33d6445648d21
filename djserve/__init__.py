"""djserve serves Django and any other ASGI application over HTTP and WebSocket.

The names in ``__all__`` are the public surface, with ``djserve.handlers`` and
``djserve.testing``; docs/guides/embedding.md tells how to use them. Importing this
package loads none of its modules: each function imports what it needs when called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from djserve.conf.process import is_worker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from djserve.errors import ConfigError, LifespanError, ListenError

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "LifespanError",
    "ListenError",
    "install_reactor",
    "is_worker",
    "run",
    "serve",
]


def __getattr__(name: str) -> Any:
    """Import an exception when it is first asked for (PEP 562)."""
    if name in ("ConfigError", "LifespanError", "ListenError"):
        return getattr(import_module("djserve.errors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(application: Callable[..., Any] | str, /, **settings: Any) -> int:
    """Serve an application until SIGTERM or SIGINT, and return the exit code.

    ``application`` is an ASGI application or its name, "module:attribute". ``settings``
    are those of the settings reference in lower case, ``bind=["127.0.0.1:8000"]`` for
    instance. If Django's settings are loaded, ``settings.DJSERVE`` applies and these
    override it. Called in the main thread, without a running event loop.

    With workers, or another setting that needs a supervisor, each process runs the same
    command line again and ends inside this call. Raises ConfigError with every wrong
    setting.
    """
    code: int = import_module("djserve.serving").run(application, settings)
    return code


async def serve(
    application: Callable[..., Any] | str,
    /,
    *,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[list[str]], object] | None = None,
    **settings: Any,
) -> None:
    """Serve an application on the running event loop, with what else runs there.

    Returns when ``stop`` is set and the connections have ended, within
    ``shutdown_timeout``. A cancellation ends it in the same way, and a second one at
    once. ``on_ready`` is called with the URLs as soon as all addresses accept
    connections. ``settings`` are those of ``run``, without those that need more than
    one process. Signals and logging are left to the program.

    Raises ConfigError, ListenError if an address cannot be listened on, LifespanError
    if the application's start-up failed.
    """
    await import_module("djserve.serving").serve(application, settings, stop, on_ready)


def install_reactor() -> Any:
    """Install djserve's Twisted reactor as the global one, and return it.

    Called before anything imports ``twisted.internet.reactor``; later calls return the
    same one. Raises ConfigError if another reactor is installed.
    """
    return import_module("djserve.serving").install_reactor()
