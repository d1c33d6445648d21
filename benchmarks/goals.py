"""What djserve wants to reach, as ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.model import THE_FOUR, Results
from benchmarks.scenarios import BY_NAME, Scenario
from benchmarks.servers import WSGI_IN_PROCESS

NO_FIGURE = "no figure"
PYTHON_PEERS = ("daphne", "uvicorn", "hypercorn", "gunicorn")


@dataclass(frozen=True, slots=True)
class Goal:
    """At least ``ratio`` times as good as the best of these in one scenario."""

    scenario: str
    ratio: float
    over: tuple[str, ...] = THE_FOUR
    over_title: str = "the best of the four"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most this much, in the scenario's own unit."""

    scenario: str
    most: float


GOALS: tuple[Goal | Limit, ...] = (
    Goal("http1_hello", 1.3),
    Goal("http1_new", 0.8, ("granian",), "Granian"),
    Goal("http2_hello", 2.0, ("gunicorn",), "gunicorn"),
    Goal("http2_hello", 0.8, ("granian",), "Granian"),
    Goal("http2_django", 5, ("granian",), "Granian"),
    Goal("http2_mixed_download_p99", 1.0, ("hypercorn",), "Hypercorn"),
    Limit("http2_mixed_download_memory", 16),
    Limit("http2_mixed_upload_memory", 16),
    Goal("websocket_echo", 1.3),
    Goal("websocket_echo_16k", 1.3),
    Goal("channels_echo", 1.1),
    Goal("django_sync", 8),
    Goal("django_sync", 0.6, (WSGI_IN_PROCESS,), "WSGI in-process"),
    Goal("django_async", 6),
    Goal("django_query", 4),
    Goal("django_session", 3),
    Goal("memory_websocket", 1.0, PYTHON_PEERS, "the best Python peer"),
    Limit("memory_upload", 16),
    Limit("memory_download", 16),
    Limit("access_log_cost", 10),
)

# Not goals with a figure of their own; the table of idle connections is made of them.
BESIDE_GOALS = ("http1_idle_1", "http1_idle_1000", "http1_idle_10000")


def goal_scenarios() -> list[Scenario]:
    """Return what the goals are about, each with the contenders that they name only."""
    wanted: dict[str, set[str]] = {name: {"djserve"} for name in BESIDE_GOALS}
    for goal in GOALS:
        over = goal.over if isinstance(goal, Goal) else ()
        wanted.setdefault(goal.scenario, {"djserve"}).update(over)
    return [
        replace(each, contenders=tuple(c for c in each.contenders if c in wanted[name]))
        for name, each in BY_NAME.items()
        if name in wanted
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, what was measured, and whether that is enough."""

    title: str
    goal: str
    measured: str
    is_met: bool


def judge(results: Results) -> list[Verdict]:
    """Return a verdict on each goal whose figures the run has."""
    verdicts = (judge_one(goal, results) for goal in GOALS)
    return [verdict for verdict in verdicts if verdict]


def judge_one(goal: Goal | Limit, results: Results) -> Verdict | None:
    """Return the verdict; None if the run has not measured whom the goal names.

    A goal is not met where a measurement has failed: it must not vanish from the table.
    """
    row = results.row(goal.scenario)
    if row is None or "djserve" not in row.cells:
        return None
    title = f"{row.group}: {row.title}"
    if isinstance(goal, Limit):
        wanted, figure = f"<= {goal.most:g} {row.unit}", row.median("djserve")
        measured = NO_FIGURE if figure is None else f"{figure:.1f} {row.unit}"
        is_met = figure is not None and figure <= goal.most
        return Verdict(title, wanted, measured, is_met)
    if not row.cells.keys() & {*goal.over}:
        return None
    ratio = row.ratio(goal.over)
    measured = NO_FIGURE if ratio is None else f"{ratio:.2f} x"
    wanted = f">= {goal.ratio:g} x {goal.over_title}"
    return Verdict(title, wanted, measured, ratio is not None and ratio >= goal.ratio)
