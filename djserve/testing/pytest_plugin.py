"""A fixture for pytest-django: the project, served while a test runs.

Loaded by pytest wherever djserve is installed, in projects that never use it too, so it
imports nothing before the fixture is used, and undoes what pytest does to a plugin's
package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.testing.fixture import ProjectServer


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Take djserve's modules off those whose assertions pytest rewrites.

    It marks the whole package of every plugin. Its loader makes each import slower and
    has no ``get_code``, so that ``runpy.run_module("djserve")`` would fail in any
    project's tests. This hook is the first that a plugin gets.
    """
    hook = pluginmanager.rewrite_hook
    # Both are pytest's own; without them things are as they were.
    getattr(hook, "_must_rewrite", set()).discard("djserve")
    getattr(hook, "_marked_for_rewrite_cache", {}).clear()


@pytest.fixture
def djserve_live_server(transactional_db: None) -> Iterator[ProjectServer]:
    """Give a running server with ``url`` and ``ws_url`` for the project's application.

    HTTP, WebSocket and static files, and the test's database: as with pytest-django's
    ``live_server``, a test that uses it has ``transactional_db`` too.
    """
    from djserve.testing.fixture import serve_project

    with serve_project() as server:
        yield server
