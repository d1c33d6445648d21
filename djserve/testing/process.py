"""A server in a separate process, for test cases that were written for Daphne's."""

from __future__ import annotations

import multiprocessing
import traceback
from typing import TYPE_CHECKING, Any

from djserve.conf.parser import parse
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped
from djserve.testing.live import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.asgi.types import Application


class DjserveProcess(multiprocessing.Process):
    """Takes the place of ``daphne.testing.DaphneProcess``, with what it takes and has.

    ``kwargs`` are keys of ``settings.DJSERVE``. ``ready`` is set once ``port`` is
    known; where the server does not start, ``errors`` has the exception and its
    traceback. ``setup`` is called in the process before it serves, ``teardown`` after.
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
        self.port = multiprocessing.Value("i", port or 0)
        self.ready = multiprocessing.Event()
        self.errors: multiprocessing.Queue[tuple[BaseException, str]] = (
            multiprocessing.Queue()
        )

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
