"""How long to attack, and where to begin.

By default each attack takes the same few hundred seeds, so that a failure is a change's
fault. With DJSERVE_FUZZ_SECONDS each goes on for that long from a random seed, and with
DJSERVE_FUZZ_SEED one failure is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, takewhile

import pytest

Attack = Callable[[asyncio.AbstractEventLoop, random.Random], list[str]]
RunAttack = Callable[[Attack, int], None]


@pytest.fixture
def run_attack(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunAttack]:
    """Give ``run_attack(attack, count)``: no seed may make the attack find a fault."""
    # Applications fail on purpose; thousands of tracebacks are of no use.
    for name in ("djserve", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", False)
    # Debug mode would keep a stack for each of a million callbacks, and log what a busy
    # machine delays.
    with asyncio.Runner(debug=False) as runner:
        loop = runner.get_loop()
        asyncio.set_event_loop(loop)

        def run(attack: Attack, count: int) -> None:
            for seed in _choose_seeds(count):
                faults = attack(loop, random.Random(seed))
                assert not faults, f"DJSERVE_FUZZ_SEED={seed} finds {faults[:5]}"

        yield run
        asyncio.set_event_loop(None)


def _choose_seeds(usual: int) -> Iterable[int]:
    if seed := os.environ.get("DJSERVE_FUZZ_SEED"):
        return [int(seed)]
    seconds = float(os.environ.get("DJSERVE_FUZZ_SECONDS", "0"))
    if not seconds:
        return range(usual)
    end = time.monotonic() + seconds
    first = random.SystemRandom().getrandbits(40)
    return takewhile(lambda seed: time.monotonic() < end, count(first))
