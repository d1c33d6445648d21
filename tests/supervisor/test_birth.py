"""What a process is told by the supervisor that has started it."""

from __future__ import annotations

import os

from djserve.supervisor.birth import Birth, count_workers, is_child


def test_birth_survives_the_environment() -> None:
    reader, writer = os.pipe()
    birth = Birth(reader, (writer,))
    for number in (reader, writer):
        os.set_inheritable(number, True)
    environ = {"DJSERVE_LOADER": birth.to_text()}
    assert is_child(environ)
    assert Birth.take(environ) == birth
    assert environ == {}

    assert not os.get_inheritable(reader)
    assert not os.get_inheritable(writer)
    os.close(reader)
    os.close(writer)


def test_other_processes_are_no_children() -> None:
    assert not is_child({})
    assert Birth.take({}) is None


def test_number_of_workers_is_that_of_the_usable_cpus() -> None:
    assert count_workers(3) == 3
    assert count_workers(None) == len(os.sched_getaffinity(0))
