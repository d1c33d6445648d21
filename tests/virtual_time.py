"""The names of ``tests.support.virtual_time``, for imports that are older than it."""

from __future__ import annotations

from tests.support.virtual_time import VirtualTimeLoop as VirtualTimeLoop
from tests.support.virtual_time import run_in_virtual_time as run_in_virtual_time
