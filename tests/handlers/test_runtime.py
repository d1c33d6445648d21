"""The number of threads, the pool of the process, and leases for Django's code."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.test import override_settings

from djserve.conf.schema import DjangoConfig, ServerConfig
from djserve.errors import ConfigError
from djserve.handlers import runtime


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
