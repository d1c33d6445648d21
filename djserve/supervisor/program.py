"""What is served, as the command that serves it knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from djserve.values import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from djserve.asgi.types import Application
    from djserve.conf.schema import ServerConfig
    from djserve.files import FileTable
    from djserve.interfaces import ThreadStats


class Loaded(NamedTuple):
    """An application, and what the start-up message tells of it.

    ``config`` is the configuration if only the application brought it along.
    ``files`` are served without the application.
    """

    application: Application
    notes: Sequence[str] = ()
    config: ServerConfig | None = None
    files: FileTable | None = None


def _nothing() -> None:
    """Have nothing to release."""


def _describe_path(scope: Mapping[str, Any]) -> str:
    return ""


class Program(Values, kw_only=True):
    """How the application is loaded, and what to do around a fork.

    ``load`` may be called in any process, once in each; it raises ConfigError.
    ``before_fork`` closes what two processes must not share: connections to databases,
    caches and channel layers. ``describe`` names the view of a request's scope.
    ``thread_stats`` returns the figures of the threads.
    """

    load: Callable[[], Loaded]
    before_fork: Callable[[], None] = _nothing
    describe: Callable[[Mapping[str, Any]], str] = _describe_path
    thread_stats: Callable[[], ThreadStats] | None = None
