"""The targets of the guided fuzzing, without its guide: their seeds, and some more."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_like_find_nothing(name: str) -> None:
    target = TARGETS[name]
    rng = random.Random(0)
    for seed in target.seeds():
        for data in (seed, mutate(rng, seed, [b"\r\n", b"\0", b"\xff", b" "])):
            assert target.run(data) == [], data
