"""The packages that the runs try, each by its name."""

from __future__ import annotations

from tests.ecosystem.package import Package
from tests.ecosystem.packages import (
    additions,
    agents,
    clients,
    crowd,
    frameworks,
    interfaces,
)

PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        *agents.PACKAGES,
        *additions.PACKAGES,
        *interfaces.PACKAGES,
        *frameworks.PACKAGES,
        crowd.Crowd(),
    )
}

CLIENTS = clients.Clients()
"""The project that real clients talk to."""
PROJECTS = {**PACKAGES, CLIENTS.name: CLIENTS}
