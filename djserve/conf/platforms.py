"""Hosting platforms, by what they put into the environment, and what does not fit them.

Figures of the platforms' own documentation, 2026: the seconds between SIGTERM and
SIGKILL by default, and the seconds for which the router in front keeps an idle
connection. A server that closes first ends requests that the router has just sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djserve.conf.schema import HTTPConfig, LifecycleConfig

CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
"""Files that Docker and Podman put into a container."""


@dataclass(frozen=True, slots=True)
class Platform:
    """``variable`` is set there; ``grace`` and ``keep_alive`` are in seconds."""

    name: str
    variable: str
    grace: float
    keep_alive: float = 0.0


PLATFORMS = (
    Platform("Heroku", "DYNO", grace=30, keep_alive=90),
    Platform("Cloud Run", "K_SERVICE", grace=10, keep_alive=600),
    Platform("Kubernetes", "KUBERNETES_SERVICE_HOST", grace=30),
)
CONTAINER = Platform("Docker", "", grace=10)


def find_platform(environ: Mapping[str, str]) -> Platform | None:
    """Return the platform that this process runs on; None if it is not known."""
    for platform in PLATFORMS:
        if environ.get(platform.variable):
            return platform
    return CONTAINER if any(map(os.path.exists, CONTAINER_FILES)) else None


def describe_misfits(
    lifecycle: LifecycleConfig, http: HTTPConfig, platform: Platform | None
) -> list[str]:
    """Return a line for each setting that does not fit the platform."""
    if platform is None:
        return []
    lines = []
    shutdown = lifecycle.shutdown_timeout
    if shutdown >= platform.grace:
        lines.append(
            f"{platform.name} kills a process {platform.grace:g} seconds after SIGTERM "
            f"by default; SHUTDOWN_TIMEOUT is {shutdown:g}. Lower it, to "
            f"{platform.grace - 2:g}, or give the process more time"
        )
    keep_alive = http.keep_alive_timeout
    if keep_alive <= platform.keep_alive:
        lines.append(
            f"{platform.name}'s router keeps idle connections for "
            f"{platform.keep_alive:g} seconds; KEEP_ALIVE_TIMEOUT is {keep_alive:g}. "
            f"Set it to {platform.keep_alive + 5:g}"
        )
    return lines
