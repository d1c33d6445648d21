from __future__ import annotations

import pytest

from djserve.conf.parser import Flag, parse
from djserve.conf.processes import ProcessConfig, describe_processes
from djserve.errors import ConfigError


def read(value: object) -> tuple[ProcessConfig, ...]:
    return parse({"PROCESSES": value}).processes.processes


def test_dictionary_is_read() -> None:
    (tasks, celery, clock) = read(
        {
            "tasks": {"command": ["db_worker"], "count": 2, "stop_timeout": 5},
            "celery": {"program": ("celery", "worker"), "overlap": True},
            "clock": {"program": ["clock"], "runserver": False},
        }
    )
    assert tasks == ProcessConfig(
        name="tasks", command=("db_worker",), count=2, stop_timeout=5.0
    )
    assert celery.program == ("celery", "worker")
    assert celery.overlap
    assert celery.runserver and not clock.runserver
    assert list(describe_processes((tasks, celery))) == ["tasks (2)", "celery (1)"]


def test_flag_is_a_management_command() -> None:
    (tasks,) = read([Flag("--processes", "tasks=db_worker --queue-name 'a b'")])
    assert tasks.command == ("db_worker", "--queue-name", "a b")
    assert tasks.words == "db_worker --queue-name 'a b'"


@pytest.mark.parametrize(
    ("value", "key", "expected"),
    [
        (["x"], "DJSERVE['PROCESSES']", "a dictionary"),
        ({"tasks": 3}, "['tasks']", "a dictionary"),
        ({"a b": {"command": ["x"]}}, "['a b']", "a name"),
        ({"workers": {"command": ["x"]}}, "['workers']", "another name"),
        ({"t": {}}, "['t']", "either 'command'"),
        ({"t": {"command": ["a"], "program": ["b"]}}, "['t']", "either 'command'"),
        ({"t": {"command": "x"}}, "['t']['command']", "a list of words"),
        ({"t": {"command": []}}, "['t']['command']", "a list of words"),
        ({"t": {"program": ["a", 1]}}, "['t']['program']", "a list of words"),
        ({"t": {"command": ["x"], "cuont": 1}}, "['t']['cuont']", "the key 'count'"),
        ({"t": {"command": ["x"], "count": -1}}, "['t']['count']", "a whole number"),
        ({"t": {"command": ["x"], "count": 1025}}, "['t']['count']", "a whole number"),
        ({"t": {"command": ["x"], "count": True}}, "['t']['count']", "a whole number"),
        (
            {"t": {"command": ["x"], "stop_timeout": "9"}},
            "['t']['stop_timeout']",
            "seconds",
        ),
        ({"t": {"command": ["x"], "overlap": 1}}, "['t']['overlap']", "True or False"),
        ({"t": {"program": ["x"], "runserver": 0}}, "['t']['runserver']", "True or F"),
        ([Flag("--processes", "db_worker")], "--processes", "NAME=COMMAND"),
    ],
)
def test_bad_value_is_named(value: object, key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(value)
    assert any(
        f"{key}: expected {expected}" in problem for problem in caught.value.problems
    )
