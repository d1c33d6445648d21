"""The names of ``tests.support.control_socket``, for imports that are older than it."""

from __future__ import annotations

from tests.support.control_socket import Desk as Desk
from tests.support.control_socket import make_status as make_status
