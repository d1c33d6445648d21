"""A fixture for pytest-django: the project, served while a test runs.

Loaded by pytest wherever djserve is installed, so it imports nothing that needs Django
before the fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.testing.fixture import ProjectServer


@pytest.fixture
def djserve_live_server(transactional_db: None) -> Iterator[ProjectServer]:
    """Give a running server with ``url`` and ``ws_url`` for the project's application.

    HTTP, WebSocket and static files, and the test's database: as with pytest-django's
    ``live_server``, a test that uses it has ``transactional_db`` too.
    """
    from djserve.testing.fixture import serve_project

    with serve_project() as server:
        yield server
