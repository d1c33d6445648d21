"""``manage.py djserve`` at a control socket; tests/e2e has it with a supervisor."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from djserve.net.channel import Channel
from djserve.net.control import ControlListener

Message = dict[str, Any]


def make_status(state: str = "none", generation: int = 1) -> Message:
    problems = ["No module named 'shop'"] if state == "failed" else []
    return {
        "version": "1.2",
        "supervisor": 4000,
        "target": 2,
        "restarts": 0,
        "generation": generation,
        "reload": {"state": state, "problems": problems},
        "is_stopping": False,
        "workers": [],
    }


class Desk:
    """A control socket with one answer for each request, in order."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: list[Message] = []
        self.requests: list[Message] = []
        self._listener = ControlListener(self.path)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def run(self, *arguments: str) -> str:
        """Return what the command prints."""
        output = StringIO()
        options = ("--control-socket", self.path)
        call_command("djserve", *options, *arguments, stdout=output)
        return output.getvalue()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing.wait(0.002):
            channel = self._listener.accept()
            if channel is not None:
                self._answer(channel)

    def _answer(self, channel: Channel) -> None:
        messages: list[Message] = []
        while not messages and not self._closing.is_set():
            messages = channel.receive()
        self.requests += messages
        channel.send(self.answers.pop(0))
        channel.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control")
    yield desk
    desk.close()


def test_status_is_a_page(desk: Desk) -> None:
    desk.answers = [make_status()]

    assert desk.run("status").startswith("djserve 1.2, supervisor 4000: 0 of 2 workers")
    assert desk.requests == [{"command": "status"}]


def test_status_is_json_for_programs(desk: Desk) -> None:
    desk.answers = [make_status()]

    assert json.loads(desk.run("status", "--json")) == make_status()


def test_reload_waits_until_the_new_code_serves(desk: Desk) -> None:
    under_way = [make_status(state) for state in ("done", "loading", "rolling")]
    desk.answers = [make_status(), {}, *under_way, make_status("done", 2)]

    assert desk.run("reload") == "Reloaded: generation 2\n"
    assert desk.requests[1] == {"command": "reload"}
    assert desk.answers == []


def test_refused_reload_is_an_error_with_its_reason(desk: Desk) -> None:
    desk.answers = [make_status(), {}, make_status("failed")]

    with pytest.raises(CommandError, match="old workers stay: No module named 'shop'"):
        desk.run("reload")


def test_reload_need_not_be_waited_for(desk: Desk) -> None:
    desk.answers = [make_status(), {}]

    assert desk.run("reload", "--no-wait") == ""
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
    arguments: list[str], request_sent: Message, desk: Desk
) -> None:
    desk.answers = [{}]
    desk.run(*arguments)

    assert desk.requests == [request_sent]


@pytest.mark.parametrize("workers", ["0", "two"])
def test_wrong_number_of_workers_is_not_sent(workers: str, desk: Desk) -> None:
    with pytest.raises(CommandError):
        desk.run("scale", workers)

    assert desk.requests == []


def test_refused_request_is_an_error_with_its_reason(desk: Desk) -> None:
    desk.answers = [{"error": "unknown command 'drain'"}]

    with pytest.raises(CommandError, match="refused: unknown command 'drain'"):
        desk.run("drain")


def test_socket_of_the_settings_is_the_default(desk: Desk) -> None:
    desk.answers = [{}]
    with override_settings(DJSERVE={"CONTROL_SOCKET": desk.path}):
        call_command("djserve", "drain")

    assert desk.requests == [{"command": "drain"}]


def test_unknown_socket_is_one_clear_line() -> None:
    with (
        override_settings(DJSERVE={}),
        pytest.raises(CommandError, match="Set CONTROL_SOCKET in DJSERVE"),
    ):
        call_command("djserve", "status")


def test_absent_supervisor_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No supervisor answers"):
        call_command("djserve", "--control-socket", str(tmp_path / "none"), "status")
