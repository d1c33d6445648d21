"""Byte streams made worse at random, and cut at random places."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


def mutate(rng: random.Random, data: bytes, tokens: Sequence[bytes]) -> bytes:
    """Return ``data`` with a few changes; most often with one, or none at all."""
    changed = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3, 6))):
        position = rng.randrange(len(changed) + 1)
        end = min(len(changed), position + rng.choice((1, 1, 2, 4, 30)))
        match rng.randrange(6):
            case 0:
                changed[position:position] = rng.choice(tokens)
            case 1:
                changed[position:end] = rng.choice(tokens)
            case 2:
                del changed[position:end]
            case 3:
                changed[position:position] = changed[position:end] * rng.choice((1, 3))
            case 4:
                changed[position:end] = rng.randbytes(end - position)
            case 5 if position < len(changed):
                changed[position] ^= 1 << rng.randrange(8)
    return bytes(changed)


def split(rng: random.Random, data: bytes) -> list[bytes]:
    """Cut ``data`` into chunks as a network might: one, some, or byte by byte."""
    count = rng.choice((0, 1, 3, 3, 10, 40))
    if count == 40 and len(data) < 400:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(count))})
    return [data[a:b] for a, b in pairwise(cuts) if a < b]
