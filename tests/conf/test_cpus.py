"""The CPUs that a process may use."""

from __future__ import annotations

import os

import pytest

from djserve.conf.cpus import count_cpus


def test_cpus_are_those_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert count_cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert count_cpus() == os.cpu_count()
