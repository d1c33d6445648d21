"""What is said of a package that the runs try: settings, hooks, what is counted."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.ecosystem.client import Call, Run


class Package:
    """A package and the project around it.

    The attributes and the first hooks are used by the project, in the server's process;
    the last ones by the test. No module of a package is imported but in a hook, so
    that the table of packages can be read without them.
    """

    name = ""
    """The distribution's name."""

    kind = ""
    """What the table says it is."""

    counted = ""
    """What is counted, in words."""

    expected: dict[str, int] = {}
    """What must be counted, beside what every package must have."""

    known: dict[str, str] = {}
    """Counts that differ under Uvicorn, each with the reason."""

    apps: list[str] = []
    first: list[str] = []
    """Middleware before all others."""
    last: list[str] = []
    """Middleware after all others."""
    settings: dict[str, Any] = {}
    environment: dict[str, str] = {}
    application = "tests.ecosystem.project.asgi:application"
    django = True
    """Whether the application is the project's, so that runasgi serves it."""
    sockets = True
    logged_failures = True
    """Whether each exception of a view leaves a traceback in the log."""

    noise = ""
    """A regular expression for what the package itself writes amiss to the log."""

    @property
    def version(self) -> str:
        return version(self.name)

    def begin(self) -> None:
        """Begin before Django is imported, as the first lines of ``manage.py`` do."""

    def start(self) -> None:
        """Begin, at the end of the settings."""

    def before_application(self) -> None:
        """Begin, before ``asgi.py`` makes the application."""

    def wrap(self, application: Any) -> Any:
        """Return what ``asgi.py`` serves."""
        return application

    def fields(self) -> dict[str, Any]:
        """Return more fields of the model ``Note``."""
        return {}

    def urls(self) -> list[Any]:
        return []

    def routes(self) -> list[Any]:
        """Return more routes of WebSockets."""
        return []

    def look(self, request: Any) -> dict[str, Any]:
        """Return what a view sees; each value must be the user's name."""
        return {}

    def work(self, request: Any) -> dict[str, Any]:
        """Like ``look``, for what may block: an asynchronous view calls it by a hop."""
        return {}

    def look_from_socket(self, scope: Any) -> dict[str, Any]:
        """Return what a consumer sees; each value must be the user's name."""
        return {}

    def prepare(self) -> None:
        """Fill the database, which has its tables and users."""

    def front(self, port: int, place: Path) -> AbstractContextManager[int]:
        """Put something before the server at a port, for a block; give its port."""
        return nullcontext(port)

    def calls(self) -> list[Call]:
        """Return the requests of a run."""
        from tests.ecosystem.client import usual_calls

        return usual_calls()

    async def converse(self, run: Run) -> None:
        """Do what else the run is to do, at the same time as the requests."""

    async def finish(self, run: Run) -> None:
        """Ask the server what is counted at the end; it still runs."""

    def collect(self, run: Run) -> None:
        """Add to what was recorded, once the server has ended."""


def folder() -> Path:
    """Return the folder of this server's run."""
    return Path(os.environ["ECOSYSTEM_FOLDER"])
