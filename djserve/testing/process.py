"""A server in a separate process, for test cases that were written for Daphne's."""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from djserve.conf.parser import parse
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped
from djserve.testing.live import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.asgi.types import Application


def _choose_context() -> Any:
    """Return how processes start: forked on Linux, unless the project has chosen.

    A fork takes any function along. Since Python 3.14 it is not the default there.
    """
    chosen: str | None = multiprocessing.get_start_method(allow_none=True)
    return multiprocessing.get_context(
        "fork" if chosen is None and sys.platform == "linux" else chosen
    )


_context = _choose_context()

if TYPE_CHECKING:
    _Process = multiprocessing.Process
else:
    _Process = _context.Process


class DjserveProcess(_Process):
    """Takes the place of ``daphne.testing.DaphneProcess``, with what it takes and has.

    ``kwargs`` are keys of ``settings.DJSERVE``. ``ready`` is set once ``port`` is
    known; if the server does not start, ``errors`` has the exception and its
    traceback. ``setup`` is called in the process before it serves, ``teardown`` after.
    On systems that do not fork (macOS, Windows) all of these are pickled: the functions
    have to be defined in a module, not in another function.
    """

    def __init__(
        self,
        host: str,
        get_application: Callable[[], Application],
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], object] | None = None,
        teardown: Callable[[], object] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__()
        self.host = host
        self.get_application = get_application
        self.kwargs = dict(kwargs or {})
        self.setup = setup
        self.teardown = teardown
        self.port = _context.Value("i", port or 0)
        self.ready = _context.Event()
        self.errors: multiprocessing.Queue[tuple[BaseException, str]] = _context.Queue()

    def start(self) -> None:
        """Start the process. Raises TypeError for what cannot be sent to it."""
        if _context.get_start_method() != "fork":
            for name in ("get_application", "kwargs", "setup", "teardown"):
                self._require_picklable(name)
        super().start()

    def _require_picklable(self, name: str) -> None:
        value = getattr(self, name)
        try:
            ForkingPickler.dumps(value)
        except Exception as error:
            raise TypeError(
                f"DjserveProcess: {name} is {value!r}, which cannot be sent to the new "
                "process (pickle). Define it at the top of a module, not in a function "
                "or as a lambda"
            ) from error

    def run(self) -> None:
        """Called in the new process; SIGTERM (``terminate``) ends it."""
        try:
            self._serve()
        except BaseException as error:
            self.errors.put((error, traceback.format_exc()))

    def _serve(self) -> None:
        reactor = Reactor()
        application = self.get_application()
        bind = f"{self.host}:{self.port.value}"
        config = parse({**DEFAULTS, **self.kwargs, "BIND": [bind]})
        if self.setup is not None:
            self.setup()
        try:
            server = Server(application, config, reactor, on_ready=self._note_ready)
            code = run_until_stopped(server, reactor)
        finally:
            if self.teardown is not None:
                self.teardown()
            reactor.dispose()
        if code is not ExitCode.OK:
            raise RuntimeError(f"The server did not start: {code.name} (see its log)")

    def _note_ready(self, server: Server) -> None:
        self.port.value = int(server.listeners[0].address.rpartition(":")[2])
        self.ready.set()
