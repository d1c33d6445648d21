"""``djserve-ctl`` at a control socket; tests/e2e has it with a supervisor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djserve import control
from tests.support.control_socket import Desk, Message, make_status

pytestmark = pytest.mark.e2e

Run = Callable[..., str]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control")
    yield desk
    desk.close()


@pytest.fixture
def run(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give ``run(*arguments, code=0)``: what is printed, to either stream."""

    def run(*arguments: str, code: int = 0) -> str:
        assert control.main(["--control-socket", desk.path, *arguments]) == code
        output = capsys.readouterr()
        return output.err if code else output.out

    return run


def test_status_is_a_page(desk: Desk, run: Run) -> None:
    desk.answers = [make_status()]

    assert run("status").startswith("djserve 1.2, supervisor 4000: 0 of 2 workers")
    assert desk.requests == [{"command": "status"}]


def test_status_is_json_for_programs(desk: Desk, run: Run) -> None:
    desk.answers = [make_status()]

    assert json.loads(run("status", "--json")) == make_status()


def test_reload_waits_until_the_new_code_serves(desk: Desk, run: Run) -> None:
    under_way = [make_status(state) for state in ("done", "loading", "rolling")]
    desk.answers = [make_status(), {}, *under_way, make_status("done", 2)]

    assert run("reload") == "Reloaded: generation 2\n"
    assert desk.requests[1] == {"command": "reload"}
    assert desk.answers == []


def numbered(attempt: int, state: str, **more: object) -> Message:
    status = make_status(state)
    status["reload"].update(attempt=attempt, **more)
    return status


def test_reload_waits_for_its_own_outcome(desk: Desk, run: Run) -> None:
    others = [numbered(1, "failed"), numbered(2, "loading")]
    answers = [make_status(), {"ok": True, "attempt": 2}]
    desk.answers = [*answers, *others, numbered(2, "done")]

    assert run("reload") == "Reloaded: generation 1\n"
    assert desk.answers == []


def test_outcome_of_a_reload_is_known_while_another_is_under_way(
    desk: Desk, run: Run
) -> None:
    previous = {"attempt": 1, "state": "failed", "problems": ["no module"]}
    now = numbered(2, "loading", previous=previous)
    desk.answers = [make_status(), {"ok": True, "attempt": 1}, now]

    assert "old workers stay: no module" in run("reload", code=1)


def test_reload_of_a_server_that_stops_is_an_error(desk: Desk, run: Run) -> None:
    stopping = {**numbered(1, "loading"), "is_stopping": True}
    desk.answers = [make_status(), {"ok": True, "attempt": 1}, stopping]

    assert "The server stops" in run("reload", code=1)


def test_refused_reload_is_an_error_with_its_reason(desk: Desk, run: Run) -> None:
    desk.answers = [make_status(), {}, make_status("failed")]

    assert "old workers stay: No module named 'shop'" in run("reload", code=1)


def test_reload_need_not_be_waited_for(desk: Desk, run: Run) -> None:
    desk.answers = [make_status(), {}]

    assert run("reload", "--no-wait") == ""
    assert desk.answers == []


@pytest.mark.parametrize(
    ("arguments", "request_sent"),
    [
        (["drain"], {"command": "drain"}),
        (["scale", "3"], {"command": "scale", "workers": 3}),
    ],
    ids=["drain", "scale"],
)
def test_command_reaches_the_supervisor(
    arguments: list[str], request_sent: Message, desk: Desk, run: Run
) -> None:
    desk.answers = [{}]
    run(*arguments)

    assert desk.requests == [request_sent]


def test_wrong_number_of_workers_is_not_sent(desk: Desk, run: Run) -> None:
    assert "At least one worker" in run("scale", "0", code=1)
    assert desk.requests == []


def test_refused_request_is_an_error_with_its_reason(desk: Desk, run: Run) -> None:
    desk.answers = [{"error": "unknown command 'drain'"}]

    assert "refused: unknown command 'drain'" in run("drain", code=1)


def test_socket_of_the_environment_is_the_default(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.answers = [{}]
    monkeypatch.setenv("DJSERVE_CONTROL_SOCKET", desk.path)

    assert control.main(["drain"]) == 0
    assert desk.requests == [{"command": "drain"}]


def test_unknown_socket_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DJSERVE_CONTROL_SOCKET", raising=False)

    assert control.main(["status"]) == 1
    assert "set DJSERVE_CONTROL_SOCKET" in capsys.readouterr().err


def test_absent_supervisor_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert control.main(["--control-socket", str(tmp_path / "none"), "drain"]) == 1
    assert "No supervisor answers" in capsys.readouterr().err


def test_neither_django_nor_the_server_is_imported() -> None:
    program = (
        "import sys, djserve.control\n"
        "print({'django', 'twisted', 'djserve.server'} & set(sys.modules))\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert output.strip() == "set()"
