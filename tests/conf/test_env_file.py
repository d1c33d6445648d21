from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djserve.conf.env_file import load_env_file
from djserve.errors import ConfigError

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
