"""Settings and command line to one checked ``ServerConfig``."""

from __future__ import annotations
