"""What of a run goes into the documentation, and that no page has parts of two runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import difference, publishing, realistic_table
from benchmarks.goals import goal_scenarios
from benchmarks.model import Results, Sample
from benchmarks.profiles import GOALS_ONLY, NORMAL, QUICK
from benchmarks.publishing import ALL, GOALS, REALISTIC, parts_of, publish
from benchmarks.runner import new_row
from benchmarks.scenarios import BY_NAME, SCENARIOS, Scenario
from benchmarks.tables import AHEAD_BLOCK, GOALS_BLOCK, RESULTS_BLOCK, marks

BLOCKS = (GOALS_BLOCK, RESULTS_BLOCK, AHEAD_BLOCK, realistic_table.BLOCK)


def make_results(
    scenarios: Iterable[Scenario],
    profile: str = NORMAL.name,
    version: str = "new",
    servers: tuple[str, ...] = (),
) -> Results:
    machine = dict.fromkeys(
        ("date", "processor", "cores", "system", "python", "load"), "today"
    )
    options = dict.fromkeys(("profile", "rounds", "seconds", "transfers"), profile)
    rows = []
    for scenario in scenarios:
        names = [n for n in scenario.contenders if not servers or n in servers]
        rows.append(new_row(scenario, names))
        for cell in rows[-1].cells.values():
            cell.add(Sample(100.0, 1.0))
    return Results(machine, {"djserve": version, "daphne": "1"}, options, rows)


@dataclass
class Docs:
    page: Path
    readme: Path
    picture: Path
    images: Path

    def block(self, name: str) -> str:
        begin, end = marks(name)
        return self.page.read_text("utf-8").partition(begin)[2].partition(end)[0]


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docs:
    """Return pages that have old figures."""
    old = "yesterday, x\ndjserve old, Daphne 1.\n"
    docs = Docs(*(tmp_path / name for name in ("page", "readme", "picture", "images")))
    pages = {docs.page: BLOCKS, docs.readme: [realistic_table.BLOCK]}
    for path, names in pages.items():
        blocks = (old.join(f"{mark}\n" for mark in marks(name)) for name in names)
        path.write_text("\n".join(blocks), "utf-8")
    docs.picture.write_text("old")
    for module in (publishing, realistic_table, difference):
        monkeypatch.setattr(module, "PAGE", docs.page)
    monkeypatch.setattr(publishing, "IMAGES", docs.images)
    monkeypatch.setattr(realistic_table, "README", docs.readme)
    monkeypatch.setattr(difference, "PICTURE", docs.picture)
    return docs


def test_whole_run_writes_everything(docs: Docs, tmp_path: Path) -> None:
    (tmp_path / "some.png").write_text("new")

    assert publish(make_results(SCENARIOS), [tmp_path / "some.png"]) == [
        ALL,
        GOALS,
        REALISTIC,
    ]
    assert "old" not in docs.page.read_text("utf-8")
    assert "yesterday" not in docs.readme.read_text("utf-8")
    assert "Measured with djserve new, today." in docs.readme.read_text("utf-8")
    assert "1.0 x" in docs.picture.read_text("utf-8")
    assert (docs.images / "some.png").read_text() == "new"
    assert "The results of all scenarios" not in docs.page.read_text("utf-8")


@pytest.mark.parametrize(
    ("scenarios", "profile", "part", "block"),
    [
        (goal_scenarios(), GOALS_ONLY.name, GOALS, GOALS_BLOCK),
        (realistic_table.scenarios(), NORMAL.name, REALISTIC, realistic_table.BLOCK),
    ],
    ids=["goals", "realistic"],
)
def test_part_that_is_published_alone_tells_of_the_other_run(
    scenarios: list[Scenario], profile: str, part: str, block: str, docs: Docs
) -> None:
    assert publish(make_results(scenarios, profile), []) == [part]

    other = "The results of all scenarios are of djserve old, yesterday."
    assert docs.block(block).rstrip().endswith(other)
    assert all("djserve old" in docs.block(name) for name in BLOCKS if name != block)


def test_readme_tells_of_two_runs(docs: Docs) -> None:
    publish(make_results(realistic_table.scenarios()), [])

    assert (
        "Measured with djserve new, today; the picture: djserve old, yesterday."
        in docs.readme.read_text("utf-8")
    )


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(make_results(SCENARIOS, QUICK.name), id="quick"),
        pytest.param(make_results([BY_NAME["http1_hello"]]), id="one scenario"),
        pytest.param(make_results(SCENARIOS, servers=("djserve",)), id="one server"),
        pytest.param(make_results(realistic_table.scenarios()[:-1]), id="rates"),
    ],
)
def test_less_than_a_part_is_not_published(results: Results, docs: Docs) -> None:
    before = docs.page.read_text("utf-8")

    assert parts_of(results) == publish(results, []) == []
    assert docs.page.read_text("utf-8") == before
    assert docs.picture.read_text() == "old"


def test_run_that_lacks_a_row_is_not_all() -> None:
    without = [each for each in SCENARIOS if each.name != "upload"]

    assert parts_of(make_results(without)) == [GOALS, REALISTIC]


def test_goals_of_a_run_are_published_without_the_other_servers() -> None:
    results = make_results(goal_scenarios(), GOALS_ONLY.name)

    assert parts_of(results) == [GOALS]
