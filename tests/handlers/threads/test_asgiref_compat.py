"""What is used of asgiref that is not documented, in the release at hand."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import (
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)

import djserve
from djserve.handlers.threads import asgiref_compat
from djserve.handlers.threads.asgiref_compat import (
    OLDEST,
    enter_lease,
    inherits_threads,
    leave_lease,
)
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool
from djserve.net.forks import ForkGuard
from tests.support.children import exit_code_of

LACKS = """
import asgiref.local, asgiref.sync
from asgiref.current_thread_executor import CurrentThreadExecutor
{change}
import djserve.handlers.threads.hops
"""

UNDOCUMENTED = {
    "executors",
    "context_to_thread_executor",
    "single_thread_executor",
    "thread_handler",
    "thread_sensitive_context",
    "threadlocal",
}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("del asgiref.local._rehome", "asgiref.local's _rehome:"),
        (
            "asgiref.local._Storage = type('_Storage', (), {})",
            "_Storage's data, thread_id:",
        ),
        (
            "del asgiref.sync.SyncToAsync.threadlocal",
            "asgiref.sync.SyncToAsync's threadlocal:",
        ),
        (
            "CurrentThreadExecutor.__init__ = lambda self, old: None",
            "asgiref.current_thread_executor.CurrentThreadExecutor's _broken",
        ),
    ],
)
def test_release_without_a_name_is_refused_by_that_name(change: str, name: str) -> None:
    program = LACKS.format(change=change)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = ended.stderr.strip().splitlines()[-1]

    assert ended.returncode != 0
    assert last.startswith("djserve.errors.ConfigError: asgiref ")
    assert name in last
    assert f"install asgiref {OLDEST}" in last


def test_no_other_module_of_the_handlers_knows_these_names() -> None:
    handlers = Path(djserve.__file__).parent / "handlers"
    users = set()
    for path in handlers.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("asgiref.local", "asgiref.current_thread_executor")
            ):
                users.add(path.name)
            if isinstance(node, ast.Attribute) and node.attr in UNDOCUMENTED:
                users.add(path.name)

    # Agents replace it: whether one has is compared there.
    assert users == {"asgiref_compat.py", "patches.py"}


def test_parent_thread_or_outer_context_is_inherited() -> None:
    async def inherits() -> bool:
        return inherits_threads()

    async def inside() -> bool:
        async with ThreadSensitiveContext():
            return inherits_threads()

    assert async_to_sync(inherits)()
    assert asyncio.run(inside())
    assert not asyncio.run(inherits())


@pytest.mark.parametrize(
    "variable", [asgiref_compat._EXECUTORS, None], ids=["quick", "plain"]
)
def test_parent_that_waits_for_the_task_is_found(
    variable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> bool:
        return asgiref_compat.has_waiting_thread()

    monkeypatch.setattr(asgiref_compat, "_EXECUTORS", variable)

    assert not asyncio.run(look())
    assert async_to_sync(look)()
    assert not asyncio.run(look())


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_of_a_view_may_run_a_loop_with_synchronous_code(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that is new has no thread that the child would miss.
    executor = ThreadPoolExecutor(1)
    monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)

    async def main() -> int:
        with ForkGuard(tuple, loop=asyncio.get_running_loop()):
            lease = Lease(pool, held=False)
            await asyncio.wrap_future(lease.submit(lambda: None))
            tokens = enter_lease(lease)
            pid = os.fork()
            if pid == 0:
                code = 2
                try:
                    code = asyncio.run(sync_to_async(lambda: 3)())
                finally:
                    os._exit(code)
            leave_lease(tokens)
            return await asyncio.to_thread(exit_code_of, pid)

    assert asyncio.run(main()) == 3
