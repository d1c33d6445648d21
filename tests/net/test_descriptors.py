"""The limit of descriptors, and what is said when none is left."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from djserve.net.descriptors import DescriptorWatch, raise_descriptor_limit
from djserve.system import descriptor_limit
from tests.support.logs import own_messages

# In a process without a limit to speak of, everything else would be in the way.
RAISE = """
import json, logging, resource, sys
from djserve.net.descriptors import raise_descriptor_limit
from djserve.system import descriptor_limit
logging.basicConfig(level=logging.DEBUG, format="%(message)s")
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
before = descriptor_limit()
raise_descriptor_limit()
raise_descriptor_limit()
print(json.dumps([before, descriptor_limit()]))
"""


@pytest.mark.e2e
def test_soft_limit_is_raised_to_the_hard_one() -> None:
    result = subprocess.run(
        [sys.executable, "-c", RAISE], capture_output=True, text=True, check=True
    )

    assert json.loads(result.stdout) == [100, 200]
    assert result.stderr == "Raised the limit of file descriptors from 100 to 200\n"


def test_limit_that_cannot_be_raised_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    before = descriptor_limit()

    def refuse(*args: Any) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10, 20))
    with caplog.at_level(logging.DEBUG, "djserve.net"):
        raise_descriptor_limit()
    monkeypatch.undo()

    assert own_messages(caplog) == [
        "The limit of file descriptors stays at 10: not allowed"
    ]
    assert descriptor_limit() == before


class Told:
    """Keeps whether it was told of a shortage."""

    def __init__(self) -> None:
        self.answers: list[bool] = []

    def set_short(self, is_short: bool) -> None:
        self.answers.append(is_short)


@pytest.mark.parametrize(
    ("number", "name"), [(errno.EMFILE, "RLIMIT_NOFILE"), (errno.ENFILE, "file-max")]
)
def test_shortage_is_said_once_in_a_while(
    number: int,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(number, os.strerror(number))

    told = Told()
    watch = DescriptorWatch()
    watch.accepting.add(told)
    with caplog.at_level(logging.WARNING, "djserve.net"):
        watch.tick(99.0)
        monkeypatch.setattr(os, "open", refuse)
        for now in (100.0, 101.0, 159.0, 160.0):
            watch.tick(now)
        monkeypatch.undo()
        for now in (161.0, 219.0, 220.0):
            watch.tick(now)

    assert told.answers == [False, *[True] * 6, False]
    assert len(own_messages(caplog)) == 2
    assert name in own_messages(caplog)[0]


def test_other_trouble_is_not_a_shortage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(errno.ENOENT, "no such file")

    monkeypatch.setattr(os, "open", refuse)
    DescriptorWatch().tick(1.0)

    assert own_messages(caplog) == []
