"""How thorough a run is: the normal profile, the quick one, that of the goals."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Rounds, seconds of load in each, and the sizes."""

    name: str
    rounds: int
    steady_rounds: int
    seconds: int
    fanout_connections: int
    idle_connections: int
    transfer_size: int
    memory_transfer_size: int
    is_whole: bool = False
    """Whether every round has all contenders: see rounds.py."""
    left_out: frozenset[str] = frozenset()
    """Scenarios that only run when they are named."""
    minutes: float | None = None
    """A run that would take longer makes one round of what is left."""
    overhead: float = 1.0
    """What part measurements take of their seconds beside the loads, about."""


NORMAL = Profile(
    name="normal",
    minutes=50,
    rounds=3,
    steady_rounds=1,
    seconds=3,
    fanout_connections=1000,
    idle_connections=10_000,
    transfer_size=1024 * MIB,
    memory_transfer_size=512 * MIB,
)

QUICK = Profile(
    name="quick",
    rounds=1,
    steady_rounds=1,
    seconds=1,
    fanout_connections=1000,
    idle_connections=2000,
    transfer_size=128 * MIB,
    memory_transfer_size=128 * MIB,
    overhead=0.4,
    left_out=frozenset(
        {
            *("http1_tls_new", "http1_idle_1", "http1_idle_1000", "http1_idle_10000"),
            *("django_query_postgresql", "django_session_postgresql"),
        }
    ),
)

GOALS_ONLY = Profile(
    name="goals",
    minutes=32,
    is_whole=True,
    rounds=5,
    steady_rounds=1,
    seconds=3,
    fanout_connections=1000,
    idle_connections=10_000,
    transfer_size=1024 * MIB,
    memory_transfer_size=1024 * MIB,
)
