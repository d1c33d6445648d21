"""Start commands as words: quotes, operators, and what a shell expands."""

from __future__ import annotations

import shlex

import pytest

from djserve.doctor.words import Unreadable, join, split_commands


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a b  c", ("a", "b", "c")),
        ("a 'b c' \"d e\"", ("a", "b c", "d e")),
        ("a \\\n  b", ("a", "b")),
        ('a --x="y z"', ("a", "--x=y z")),
        ("a ''", ("a", "")),
        # Of supervisord.
        (
            "a -u /d%(process_num)d.sock -v 2",
            ("a", "-u", "/d%(process_num)d.sock", "-v", "2"),
        ),
        ("a -w 4 \\", ("a", "-w", "4")),
        (r"C:\venv\Scripts\a.exe b", (r"C:\venv\Scripts\a.exe", "b")),
        (r".\venv\Scripts\a b", (r".\venv\Scripts\a", "b")),
        (r"venv\Scripts\a b", (r"venv\Scripts\a", "b")),
        (r'"C:\Site\a.exe" b', (r"C:\Site\a.exe", "b")),
        (r"a my\ file d\x", ("a", "my file", "dx")),
        ("a b#c # d 'e", ("a", "b#c")),
        ("a $PORT ${PORT:-80}", ("a", "$PORT", "${PORT:-80}")),
        ('a "0.0.0.0:$PORT"', ("a", "0.0.0.0:$PORT")),
        ("a $(nproc) `nproc`", ("a", "$(nproc)", "`nproc`")),
        ("a $((2 * $(nproc) + 1))", ("a", "$((2 * $(nproc) + 1))")),
    ],
)
def test_words_of_a_command(line: str, words: tuple[str, ...]) -> None:
    assert split_commands(line)[0].words == words


def test_each_command_of_a_line_keeps_what_is_around_it() -> None:
    first, second = split_commands("cd /app && run --x 1 > log 2>&1")

    assert first.words == ("cd", "/app")
    assert second.words == ("run", "--x", "1")
    assert (second.before, second.after) == ("cd /app && ", " > log 2>&1")


@pytest.mark.parametrize("line", ["a 'b", 'a "b', "a `b"])
def test_open_quote_is_an_error(line: str) -> None:
    with pytest.raises(Unreadable, match="not closed"):
        split_commands(line)


@pytest.mark.parametrize("words", [["a b", "c'd", "*", ""], ["[::1]:80", "--x=1"]])
def test_joined_words_are_read_as_they_were(words: list[str]) -> None:
    assert shlex.split(join(words)) == words


def test_variables_stay_to_be_expanded() -> None:
    assert join(["$PORT", "${PORT:-80}", "a b $X"]) == '$PORT "${PORT:-80}" "a b $X"'
