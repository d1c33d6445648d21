"""Settings as read for each request; the pool of the process, and its leases."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings

from djserve.conf.schema import DjangoConfig, ServerConfig
from djserve.errors import ConfigError
from djserve.handlers import runtime
from djserve.handlers.runtime import read_setting
from djserve.handlers.threads.leases import CONSUMERS
from djserve.handlers.threads.mailbox import Mailbox


@pytest.fixture(autouse=True)
def _own_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime, "_configured", None)
    monkeypatch.setattr(runtime, "_pool", None)
    yield
    if runtime._pool is not None:
        runtime._pool[1].close(60)


def test_number_of_threads_is_a_setting() -> None:
    assert runtime.thread_count(DjangoConfig(threads=7)) == 7


@pytest.mark.parametrize(("cpus", "threads"), [(1, 8), (2, 12), (7, 32), (64, 32)])
def test_default_number_of_threads_suits_the_machine(
    cpus: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "count_cpus", lambda: cpus)

    assert runtime.thread_count(DjangoConfig()) == threads


def test_settings_configure_the_pool_under_other_servers() -> None:
    with override_settings(DJSERVE={"THREADS": 3}):
        assert runtime.shared_pool().size == 3


def test_server_configures_the_pool() -> None:
    runtime.configure(ServerConfig(django=DjangoConfig(threads=5)))

    assert runtime.shared_pool().size == 5


@pytest.mark.parametrize(
    ("engine", "full"),
    [
        ("django.db.backends.sqlite3", runtime.FULL_WITH_SQLITE),
        ("django.contrib.gis.db.backends.spatialite", runtime.FULL_WITH_SQLITE),
        ("django.db.backends.postgresql", None),
    ],
)
def test_cpus_bound_the_threads_of_a_project_with_sqlite(
    engine: str, full: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ENGINE", engine)

    assert runtime.make_pool(1)._full == full


def test_wrong_settings_are_an_error() -> None:
    with override_settings(DJSERVE={"THREADS": 0}), pytest.raises(ConfigError):
        runtime.current_config()


def test_process_has_one_pool() -> None:
    assert runtime.shared_pool() is runtime.shared_pool()


def test_forked_process_has_a_pool_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = runtime.shared_pool()
    monkeypatch.setattr(os, "getpid", lambda: -1)

    assert runtime.shared_pool() is not pool


def test_lease_closes_old_connections_before_its_thread_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(runtime, "tidy_connections", lambda: calls.append("close"))
    pool = runtime.make_pool(1)
    lease = runtime.make_lease(pool, on_first=lambda: calls.append("first"))
    lease.submit(calls.append, "job").result(60)
    pool.close(60)

    assert calls == ["first", "job", "close"]


# As Dynaconf does: an object of its own kind where Django's modules look for settings.
FOREIGN = """
import sys, types
from django import conf

conf.settings.configure()
django_settings = conf.settings

class Settings:
    values = {"ROOT_URLCONF": "first"}
    def __getattr__(self, name):
        return self.values.get(name) or getattr(django_settings, name)

module = types.ModuleType("django.conf")
module.__dict__.update(vars(conf), settings=Settings())
sys.modules["django.conf"] = module

from djserve.handlers.runtime import read_setting
from djserve.handlers.threads.mailbox import Mailbox

assert read_setting("ROOT_URLCONF") == "first"
Settings.values["ROOT_URLCONF"] = "second"
print(read_setting("ROOT_URLCONF"))
"""


def test_lease_leaves_no_closed_loop_in_its_thread() -> None:
    def make_loop() -> None:
        with pytest.raises(RuntimeError, match="no current event loop"):
            asyncio.get_event_loop()
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.close()

    pool = runtime.make_pool(1)
    for _ in range(3):
        runtime.make_lease(pool, group=CONSUMERS).submit(make_loop).result(60)

    assert pool.close(60)


def test_overridden_setting_is_seen_and_so_is_its_end() -> None:
    before = read_setting("APPEND_SLASH")

    with override_settings(APPEND_SLASH="outer"):
        outer = read_setting("APPEND_SLASH")
        with override_settings(APPEND_SLASH="inner"):
            inner = read_setting("APPEND_SLASH")
        again = read_setting("APPEND_SLASH")

    assert (outer, inner, again) == ("outer", "inner", "outer")
    assert read_setting("APPEND_SLASH") == before == settings.APPEND_SLASH


def test_setting_that_is_set_by_hand_is_seen() -> None:
    with override_settings(PREPEND_WWW=False):
        read_setting("PREPEND_WWW")
        settings.PREPEND_WWW = True

        assert read_setting("PREPEND_WWW") is True

    assert read_setting("PREPEND_WWW") is False


def test_setting_that_is_deleted_is_missing() -> None:
    with override_settings(X_TEST=1):
        assert read_setting("X_TEST") == 1
        delattr(settings, "X_TEST")

        with pytest.raises(AttributeError):
            read_setting("X_TEST")


@pytest.mark.e2e
def test_settings_object_of_another_package_is_asked_each_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN], capture_output=True, text=True, timeout=120
    )

    assert done.stdout == "second\n", done.stderr


@pytest.mark.parametrize(
    ("limit", "too_many"), [(None, False), (0, True), (1, True), (2, False)]
)
def test_requests_beyond_the_queue_limit_are_too_many(
    limit: int | None, too_many: bool
) -> None:
    pool = runtime.make_pool(1)
    threads = runtime.RequestThreads(pool, limit)
    gate = threading.Event()
    # One runs, and one waits.
    for _ in range(2):
        runtime.make_lease(pool).submit(gate.wait, 60)

    assert threads.is_overloaded() is too_many
    gate.set()
    assert pool.close(60)
    assert runtime.RequestThreads(pool, 1).is_overloaded() is False


def test_each_loop_has_a_mailbox() -> None:
    threads = runtime.RequestThreads(runtime.make_pool(1), None)

    async def look() -> tuple[Mailbox, bool]:
        mailbox = threads.mailbox()
        return mailbox, mailbox is threads.mailbox()

    (one, is_same), (other, _) = asyncio.run(look()), asyncio.run(look())

    assert is_same
    assert one is not other
    assert threads.pool.close(60)


def test_requests_take_the_pool_of_the_process() -> None:
    assert runtime.RequestThreads(None, None).pool is runtime.shared_pool()
