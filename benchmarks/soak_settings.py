"""The settings of the benchmarks' project, with what the soak asks of it."""

from __future__ import annotations

from benchmarks.project.settings import *  # noqa: F403

ASGI_APPLICATION = "benchmarks.soak_site.application"
ROOT_URLCONF = "benchmarks.soak_site"
