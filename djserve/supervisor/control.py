"""The control socket's control: ``manage.py djserve`` asks, the supervisor answers."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from djserve.conf.processes import LARGEST_COUNT
from djserve.errors import ListenError
from djserve.net.control import ControlListener
from djserve.supervisor.status import describe_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.net.channel import Channel, Message
    from djserve.supervisor.fleet import Fleet
    from djserve.supervisor.reports import CallsByWorker
    from djserve.supervisor.signals import Watcher


GUESTS = 32
"""Connections at a time, of which the oldest make room for new ones."""


class ControlServer:
    """Answer requests at a control socket. Raises ListenError."""

    def __init__(
        self,
        path: str,
        fleet: Fleet,
        watcher: Watcher,
        *,
        reload: Callable[[], int | None],
        drain: Callable[[], None],
    ) -> None:
        try:
            self._listener = ControlListener(path)
        except ListenError as error:
            address = f"{error.address} (CONTROL_SOCKET)"
            raise ListenError(address, error.reason, error.hint) from error
        self._fleet = fleet
        self._watcher = watcher
        self._reload = reload
        self._drain = drain
        self._guests: dict[Channel, None] = {}
        watcher.watch(self._listener, self._accept)

    def turn(self) -> None:
        """Send on what did not fit at once; called all the time."""
        for guest in list(self._guests):
            guest.flush()

    def close(self) -> None:
        """Stop answering."""
        self._watcher.forget(self._listener)
        self._listener.close()
        for guest in list(self._guests):
            self._leave(guest)

    def _accept(self) -> None:
        guest = self._listener.accept()
        if guest is not None:
            self._guests[guest] = None
            for oldest in list(self._guests)[:-GUESTS]:
                self._leave(oldest)
            self._watcher.watch(guest, partial(self._hear, guest))

    def _hear(self, guest: Channel) -> None:
        try:
            requests = guest.receive()
        except (EOFError, ValueError, RecursionError):
            # Gone, or what it sends is no JSON, or nested beyond reason.
            self._leave(guest)
            return
        if not all(isinstance(request, dict) for request in requests):
            self._leave(guest)
            return
        for request in requests:
            self._answer(guest, request)

    def _leave(self, guest: Channel) -> None:
        self._watcher.forget(guest)
        self._guests.pop(guest, None)
        guest.close()

    def _answer(self, guest: Channel, request: Message) -> None:
        match request.get("command"):
            case "status":
                self._fleet.reports.ask(
                    self._fleet.ready, partial(self._send_status, guest)
                )
                return
            case "reload":
                attempt = self._reload()
                if attempt is None:
                    guest.send({"error": "the server is stopping"})
                else:
                    guest.send({"ok": True, "attempt": attempt})
                return
            case "drain":
                self._drain()
            case "scale" if self._fleet.is_stopping:
                guest.send({"error": "the server is stopping"})
                return
            case "scale" if type(request.get("workers")) is int:
                problem = self._scale(request["workers"], request.get("process"))
                if problem:
                    guest.send({"error": problem})
                    return
            case other:
                guest.send({"error": f"unknown command {other!r}"})
                return
        guest.send({"ok": True})

    def _scale(self, count: int, name: object) -> str:
        """Change a number; return why not, "" if it was done."""
        if count > LARGEST_COUNT:
            return f"expected at most {LARGEST_COUNT}, got {count}"
        if name is None:
            self._fleet.scale(count)
            return ""
        services = self._fleet.services
        service = services.find(str(name))
        if service is None:
            known = ", ".join(each.name for each in services.services) or "none"
            return f"PROCESSES has no {name!r} (it has: {known})"
        services.scale(service, count)
        return ""

    def _send_status(self, guest: Channel, calls: CallsByWorker) -> None:
        if guest in self._guests:
            guest.send(describe_fleet(self._fleet, os.getpid(), calls))
