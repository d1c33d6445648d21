"""A control socket with the answers of a supervisor that a test makes up."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

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
