"""What a profile says of itself, and which of them are kept."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from benchmarks.cli import PROFILES
from benchmarks.model import Sample
from benchmarks.profiling import HOT_PATHS, render
from benchmarks.runner import describe_machine
from benchmarks.scenarios import BY_NAME


@pytest.mark.e2e
def test_profile_tells_of_which_code_and_day_it_is() -> None:
    text = render(BY_NAME["http1_hello"], Sample(100.0), Counter({("run",): 3}), 5)

    machine = describe_machine()
    line = text.splitlines()[1]
    assert line.startswith(f"{machine['date']}, ")
    assert f" {machine['python']}, djserve" in line


def test_profiles_that_are_kept_are_all_made_anew() -> None:
    profiles = {path.stem: path.read_text("utf-8") for path in PROFILES.glob("*.txt")}

    assert profiles.keys() == {*HOT_PATHS}
    for text in profiles.values():
        assert re.search(r"^\S+, .*, djserve \S+ \(\w+\), load", text, re.MULTILINE)
