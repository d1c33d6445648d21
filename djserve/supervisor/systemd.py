"""The service manager: sockets it hands over, and how it is notified (sd_notify)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from djserve.net.binding import use_descriptors
from djserve.net.control import send_datagram

if TYPE_CHECKING:
    from djserve.conf.schema import BindConfig, RedirectConfig

FIRST_DESCRIPTOR = 3


def adopt_activation(
    bind: BindConfig,
    redirect: RedirectConfig,
    environ: Mapping[str, str] | None = None,
) -> BindConfig:
    """Return the sockets of LISTEN_FDS instead of BIND, ``bind`` without any.

    Those that REDIRECT_HTTP names stay there.
    """
    environ = read_first_environment() if environ is None else environ
    count = environ.get("LISTEN_FDS", "")
    process = environ.get("LISTEN_PID", "")
    if process != str(os.getpid()) or not count.isdigit() or count == "0":
        return bind
    numbers = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for number in numbers:
        os.set_inheritable(number, False)
    named = redirect.redirect_http
    redirecting = [one for one in numbers if f"fd://{one}" in named]
    adopted, _ = use_descriptors(bind, redirect, numbers, redirecting)
    return adopted


def read_first_environment() -> Mapping[str, str]:
    """Return the environment that this process was started with.

    Twisted takes the variables of socket activation away when it is imported.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = os.fsdecode(file.read()).split("\0")
    except OSError:
        return os.environ
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


def is_awaited(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a service manager waits to be told that the server is ready."""
    return bool(environ.get("NOTIFY_SOCKET"))


class Notifier:
    """Tell the service manager of each step; does nothing if there is none."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        interval = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", str(os.getpid()))
        is_watched = interval.isdigit() and process == str(os.getpid())
        # Half of the limit, as sd_watchdog_enabled(3) advises.
        self._interval = int(interval) / 2e6 if is_watched else 0.0
        self._next_ping = 0.0

    def ready(self, status: str) -> None:
        """Everything serves."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={status}")

    def reloading(self) -> None:
        """A rolling restart begins; ``ready`` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=Reloading")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1\nSTATUS=Draining")

    def alive(self, now: float) -> None:
        """Feed the watchdog when it is due; called often, with a monotonic time."""
        if self._interval and now >= self._next_ping:
            self._next_ping = now + self._interval
            self._send("WATCHDOG=1")

    def environment(self) -> dict[str, str]:
        """Return what a successor needs to speak to the same service manager."""
        return {"NOTIFY_SOCKET": self._address} if self._address else {}

    def _send(self, text: str) -> None:
        if self._address:
            send_datagram(self._address, text)
