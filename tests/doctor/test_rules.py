"""How the arguments of another server are read: argparse's and click's ways."""

from __future__ import annotations

import pytest

from djserve.doctor.gunicorn import SERVER as GUNICORN
from djserve.doctor.rules import read_arguments
from djserve.doctor.uvicorn import SERVER as UVICORN


@pytest.mark.parametrize(
    "words",
    [
        ["-w", "4", "app"],
        ["-w4", "app"],
        ["-w=4", "app"],
        ["--workers=4", "app"],
        ["--workers", "4", "app"],
        ["app", "--workers", "4"],
    ],
)
def test_forms_of_a_flag_with_a_value(words: list[str]) -> None:
    (flag,), positional = read_arguments(GUNICORN, words)

    assert flag.rule is not None
    assert (flag.rule.name, flag.value, positional) == ("workers", "4", ["app"])


def test_switches_in_one_word() -> None:
    given, positional = read_arguments(GUNICORN, ["-DRw2", "app"])

    assert [each.flag for each in given] == ["-D", "-R", "-w"]
    assert (given[-1].value, positional) == ("2", ["app"])


def test_beginning_of_a_flag_counts_where_argparse_reads_it() -> None:
    (found,), _ = read_arguments(GUNICORN, ["--access-logfi", "-", "app"])
    (other,), _ = read_arguments(UVICORN, ["--work=4", "app:app"])

    assert found.rule is not None
    assert found.rule.name == "accesslog"
    assert other.rule is None


def test_ambiguous_beginning_is_unknown() -> None:
    (found,), _ = read_arguments(GUNICORN, ["--http2=1", "app"])

    assert found.rule is None


def test_flag_that_is_unknown_takes_no_application() -> None:
    (flag,), positional = read_arguments(UVICORN, ["--new", "mysite.asgi:application"])

    assert (flag.rule, positional) == (None, ["mysite.asgi:application"])


def test_flag_that_is_unknown_takes_its_value() -> None:
    (flag,), positional = read_arguments(UVICORN, ["app:app", "--new", "3"])

    assert (flag.text, positional) == ("--new 3", ["app:app"])


def test_two_dashes_end_the_flags() -> None:
    assert read_arguments(GUNICORN, ["--", "-w"]) == ([], ["-w"])
