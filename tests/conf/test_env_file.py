from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

import pytest

from djserve.conf import env_file
from djserve.conf.env_file import load_env_file
from djserve.errors import ConfigError
from tests.support.odd_files import KINDS, make_odd_file

if TYPE_CHECKING:
    from pathlib import Path


def load(tmp_path: Path, text: str | bytes, **environ: str) -> dict[str, str]:
    path = tmp_path / ".env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    load_env_file(str(path), environ)
    return environ


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("A=b\r\n", "A", "b"),
        ("\ufeffA=b", "A", "b"),
        ("  export A = b c  \n", "A", "b c"),
        ("# A=x\n\nA=b # comment", "A", "b"),
        ("A=b#c", "A", "b#c"),
        ("A=#c", "A", "#c"),
        ("A= # comment", "A", ""),
        ("A=\nB=c", "A", ""),
        ("A='b # $c \\n' # comment", "A", "b # $c \\n"),
        ('A="b # \\"c\\" \\n \\\\ \\x"', "A", 'b # "c" \n \\ \\x'),
        ('A="b"#comment', "A", "b"),
        ("A='b\nc'\nB=d", "A", "b\nc"),
        ("A=postgres://u:p@h/db?x=1", "A", "postgres://u:p@h/db?x=1"),
        ("A=it's", "A", "it's"),
        ("A=b\nA=c", "A", "c"),
        ("A=é", "A", "é"),
    ],
)
def test_value_is_read(text: str, name: str, value: str, tmp_path: Path) -> None:
    assert load(tmp_path, text)[name] == value


def test_what_is_set_already_stays(tmp_path: Path) -> None:
    assert load(tmp_path, "A=b\nC=d", A="set", E="") == {"A": "set", "C": "d", "E": ""}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=b\nsecret", 2),
        ("A='b", 1),
        ('A="b', 1),
        ("A='b' c", 1),
        ("1A=b", 1),
        ("=b", 1),
        ("A=b\0", 1),
        ("\n\nA b=c", 3),
    ],
)
def test_wrong_line_is_named_and_nothing_is_set(
    text: str, line: int, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    path.write_text(text)
    environ: dict[str, str] = {}
    with pytest.raises(ConfigError, match=f"line {line}: expected NAME=value") as info:
        load_env_file(str(path), environ)

    assert environ == {}
    assert "secret" not in str(info.value)


@pytest.mark.parametrize("content", [None, b"A=\xff"])
def test_file_that_cannot_be_read_is_named(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--env-file .*\.env: cannot be read"):
        load_env_file(str(path), {})


@pytest.mark.e2e
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_named_and_not_waited_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env_file, "PATIENCE", 0.01)
    path = make_odd_file(tmp_path, kind)

    with pytest.raises(ConfigError, match=rf"--env-file .*: {KINDS[kind]}"):
        load_env_file(str(path), {})


def test_null_device_has_no_variables() -> None:
    environ: dict[str, str] = {}
    load_env_file(os.devnull, environ)

    assert environ == {}


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """As a shell's <(command) gives it: the writer may come later, and pause."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    environ: dict[str, str] = {}
    reader = threading.Thread(target=load_env_file, args=(str(path), environ))
    reader.start()
    with path.open("wb", buffering=0) as writer:
        writer.write(b"A=b\r\nC")
        reader.join(0.05)
        assert reader.is_alive()
        writer.write(b"=d\n")
    reader.join(60)

    assert environ == {"A": "b", "C": "d"}


def test_pipe_that_nothing_was_written_to_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    opened = threading.Thread(target=lambda: path.open("wb").close())
    opened.start()

    with pytest.raises(ConfigError, match="nothing was written to it"):
        load_env_file(str(path), {})
    opened.join(60)


def test_pipe_is_named_on_a_system_without_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    monkeypatch.delattr(select, "poll")

    with pytest.raises(ConfigError, match="cannot be read: it is a FIFO"):
        load_env_file(str(path), {})
