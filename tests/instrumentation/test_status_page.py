from __future__ import annotations

from typing import Any

import pytest

from djserve.instrumentation.status_page import format_age, format_status

CALL = {
    "method": "GET",
    "path": "/report",
    "view": "shop.views.report",
    "age": 2.34,
    "where": "thread",
    "stack": ['File "views.py", line 3, in report', "    rows = list(query)"],
}


def make_worker(**fields: Any) -> dict[str, Any]:
    worker = {
        "number": 1,
        "process": 4242,
        "state": "ready",
        "generation": 1,
        "age": 61.0,
        "memory": 50 * 2**20,
        "blocked": 0.0,
        "requests": 1234567,
        "connections": 2,
        "websockets": 3,
        "in_flight": 1,
        "thread_queue": 5,
        "threads": {
            "computing": 0,
            "waiting": 0,
            "parked": 0,
            "longest_wait": 0.0,
            "views": {},
        },
        "calls": [],
    }
    return {**worker, **fields}


def make_status(*workers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    status = {
        "version": "1.2",
        "supervisor": 4000,
        "target": 2,
        "restarts": 3,
        "generation": 4,
        "reload": {"state": "none", "problems": []},
        "is_stopping": False,
        "workers": list(workers),
    }
    return {**status, **fields}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (185, "3m05s"),
        (3600, "1h00m"),
        (7499, "2h04m"),
        (86400, "1d00h"),
        (3 * 86400 + 2 * 3600 + 3599, "3d02h"),
    ],
)
def test_age_has_two_units(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_first_line_sums_the_fleet_up() -> None:
    assert format_status(make_status(make_worker())).splitlines()[0] == (
        "djserve 1.2, supervisor 4000: 1 of 2 workers ready, generation 4, 3 restarts"
    )


def test_worker_is_a_row_below_its_titles() -> None:
    page = format_status(make_status(make_worker(), make_worker(number=12)))
    _, titles, first, second = page.splitlines()

    assert len(titles) == len(first) == len(second)
    assert titles.split()[:5] == ["WORKER", "PROCESS", "STATE", "AGE", "MEMORY"]
    expected = "1 4242 ready 1m01s 50 MiB 2 3 1234567 1 5"
    assert first.split() == expected.split()
    assert second.split() == f"12{expected[1:]}".split()


def test_fleet_without_workers_has_titles_alone() -> None:
    lines = format_status(make_status()).splitlines()

    assert len(lines) == 2
    assert lines[1].startswith("WORKER")


def test_draining_and_a_failed_reload_are_told() -> None:
    failed = {"state": "failed", "problems": ["No module named 'shop'", "Stopped"]}
    page = format_status(make_status(is_stopping=True, reload=failed))

    assert "\nDraining\n" in page
    assert "The last reload failed: No module named 'shop'\nStopped\n" in page


def test_running_request_is_told_with_its_view() -> None:
    page = format_status(make_status(make_worker(calls=[CALL])))

    assert page.splitlines()[-1] == (
        "Worker 1: GET /report in shop.views.report, 2.3 s, in a thread"
    )


def test_stack_is_told_where_it_is_asked_for() -> None:
    page = format_status(make_status(make_worker(calls=[CALL])), stacks=True)

    assert page.splitlines()[-2:] == [
        '    File "views.py", line 3, in report',
        "        rows = list(query)",
    ]


def test_request_without_a_view_has_its_path_alone() -> None:
    page = format_status(make_status(make_worker(calls=[{**CALL, "view": ""}])))

    assert "GET /report, 2.3 s" in page


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a\x1b]0;owned\x07", "/a\\x1b]0;owned\\x07"),
        ("/a\nWorker 7: GET /", "/a\\nWorker 7: GET /"),
        ("/\u202egnp\x9b2J", "/\\u202egnp\\x9b2J"),
        ("/\udcff", "/\\udcff"),
        ("/gr\u00fc\u00dfe/\u4f11", "/gr\u00fc\u00dfe/\u4f11"),
        ("/" + "x" * 8000, "/" + "x" * 199 + "..."),
    ],
    ids=["title", "line", "direction", "surrogate", "letters", "long"],
)
def test_path_is_no_command_to_the_terminal(path: str, shown: str) -> None:
    page = format_status(make_status(make_worker(calls=[{**CALL, "path": path}])))

    assert page.splitlines()[-1].startswith(f"Worker 1: GET {shown} in shop")


def test_ready_worker_that_does_not_answer_is_blocked() -> None:
    page = format_status(make_status(make_worker(calls=None, blocked=7.5)))

    assert page.splitlines()[-1] == (
        "Worker 1 does not answer: its event loop has been blocked for 7.5 s"
    )


def test_starting_worker_need_not_answer() -> None:
    page = format_status(make_status(make_worker(calls=None, state="starting")))

    assert "does not answer" not in page


def test_threads_at_work_are_shown_by_view() -> None:
    threads = {
        "computing": 2,
        "waiting": 204,
        "parked": 3,
        "longest_wait": 1.25,
        "views": {"shop.views.report": {"threads": 204, "queued": 5}},
    }
    page = format_status(make_status(make_worker(threads=threads)))

    assert (
        "Worker 1: threads: 2 computing, 204 waiting, 3 parked; 5 calls queued, the "
        "first for 1.2 s\n    shop.views.report: 204 threads, 5 calls queued"
    ) in page


def test_worker_that_is_not_forked_yet_has_no_process_and_no_memory() -> None:
    worker = make_worker(state="starting", process=None, memory=0, calls=None)
    row = format_status(make_status(worker)).splitlines()[2]

    assert row.split()[:5] == ["1", "-", "starting", "1m01s", "-"]


def test_nothing_is_said_of_queues_that_are_empty() -> None:
    threads = {
        "computing": 1,
        "waiting": 0,
        "parked": 0,
        "longest_wait": 0.0,
        "views": {"shop.views.report": {"threads": 1, "queued": 0}},
    }
    worker = make_worker(threads=threads, thread_queue=0)
    page = format_status(make_status(worker)).splitlines()

    assert page[-2:] == [
        "Worker 1: threads: 1 computing, 0 waiting, 0 parked",
        "    shop.views.report: 1 thread",
    ]


def test_processes_that_come_and_go_are_not_counted_as_ready() -> None:
    workers = [make_worker(state=state) for state in ("stopping", "ready", "starting")]
    page = format_status(make_status(*workers, target=1, restarts=1))

    assert page.splitlines()[0].endswith("1 of 1 worker ready, generation 4, 1 restart")


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("loading", "Reloading: the new code is being loaded"),
        ("rolling", "Reloading: workers with the new code replace the others"),
        ("done", None),
        ("none", None),
    ],
)
def test_reload_that_is_under_way_is_told(state: str, line: str | None) -> None:
    page = format_status(make_status(reload={"state": state, "problems": []}))

    told = [each for each in page.splitlines() if each.startswith("Reloading")]
    assert told == ([] if line is None else [line])


def test_limits_that_were_reached_are_named() -> None:
    worker = make_worker(limits={"CLIENT_MEMORY_LIMIT": 3, "HEADER_TIMEOUT": 1})
    page = format_status(make_status(worker)).splitlines()

    assert (
        "Worker 1: refused or closed by setting: CLIENT_MEMORY_LIMIT 3, "
        "HEADER_TIMEOUT 1"
    ) in page


@pytest.mark.parametrize("fields", [{}, {"limits": {}}])
def test_worker_without_reached_limits_has_no_line_for_them(
    fields: dict[str, Any],
) -> None:
    assert "refused" not in format_status(make_status(make_worker(**fields)))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "tasks: 0 of 1 running: work"),
        (
            {"restarts": 2, "last_end": "ended with exit code 3", "next_start": 4.0},
            "tasks: 0 of 1 running, 2 restarts, the last ended with exit code 3, "
            "next start in 4 s: work",
        ),
        (
            {"last_end": "cannot be started: no such file", "next_start": 4.0},
            "tasks: 0 of 1 running, cannot be started: no such file, "
            "next start in 4 s: work",
        ),
        (
            {"restarts": 2, "last_end": "cannot be started: no such file"},
            "tasks: 0 of 1 running, 2 restarts: work",
        ),
    ],
)
def test_process_says_how_it_has_ended_or_why_it_cannot_start(
    fields: dict[str, Any], line: str
) -> None:
    process = {
        "name": "tasks",
        "command": "work",
        "target": 1,
        "restarts": 0,
        "last_end": "",
        "next_start": 0.0,
        "running": [],
    }
    page = format_status(make_status(processes=[{**process, **fields}]))

    assert line in page.splitlines()
