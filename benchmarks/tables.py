"""Results as Markdown, and the marked block of a page that holds them."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from benchmarks.ahead import Comparison, Lead, find_leads
from benchmarks.goals import judge
from benchmarks.idle import Growth, growth_of
from benchmarks.model import Cell, Results, Row, format_number
from benchmarks.servers import COMMANDS

TITLES = {
    "djserve": "djserve",
    "daphne": "Daphne",
    "uvicorn": "Uvicorn",
    "hypercorn": "Hypercorn",
    "granian": "Granian",
}

GOALS_BLOCK, RESULTS_BLOCK = "goals table", "benchmark table"
AHEAD_BLOCK, BREAKDOWN_BLOCK = "ahead table", "breakdown table"

LEGEND = (
    "Each cell is the median of the rounds and, after ±, half the distance from the"
    " least to the greatest in per cent.\n"
    "A figure without ± has been measured once: its rounds are known to differ little,"
    " it was less than half of the leader's figure in the first round, or the run had"
    " no time for more. Two rounds that differ by less than ±5 % are enough, too.\n"
    "`vs four` is how many times better djserve is than the best of Daphne, Uvicorn,"
    " Hypercorn and Granian; 1.00 is as good.\n"
    "`°` marks a figure during which the server's core was less than 85 % busy, so"
    " that the load, the disk or waiting set the pace.\n"
    "The lines below a group's figures are the server's CPU time for one request,"
    " message or MiB; other work on the machine disturbs it less.\n"
    "`raw bytes` is not a server: it bounds what the WebSocket load can measure.\n"
    "`-` stands for what a server does not have or failed at; the reasons are below."
)

AHEAD_LEGEND = (
    "Each row in which another server has the better figure, or takes less CPU time:"
    " gunicorn and its threads count, too.\n"
    "The ratios say how many times better djserve is, so the peer is ahead where one"
    " is below 1; *noise* is said of it if the rounds of both overlap.\n"
    "The reasons are kept in `benchmarks/reasons.py`."
)
UNEXPLAINED = "Not explained yet."
NONE_AHEAD = "None in this run."

MISSED = "[no](#where-the-limits-are)"


def title_of(contender: str) -> str:
    return TITLES.get(contender, contender)


def render(results: Results) -> str:
    """Return the whole report."""
    parts = figures_of(results)
    if ahead := render_ahead(results):
        parts.append(f"### Rows where a peer is ahead\n\n{ahead}")
    parts += [render_idle(results), render_goals(results), render_problems(results)]
    return join(parts)


def render_figures(results: Results) -> str:
    """Return the figures of all scenarios, and why some are missing."""
    return join([*figures_of(results), render_problems(results)])


def figures_of(results: Results) -> list[str]:
    groups = groupby(results.rows, key=lambda row: row.group)
    tables = [render_group(group, [*rows]) for group, rows in groups]
    return [f"{render_machine(results)}\n{LEGEND}", *tables]


def render_verdicts(results: Results) -> str:
    """Return what a run says of the goals, without the figures of the others."""
    return join([render_machine(results), render_goals(results), render_idle(results)])


def join(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def render_machine(results: Results) -> str:
    machine, options = results.machine, results.options
    versions = ", ".join(
        f"{title_of(name)} {version}" for name, version in results.versions.items()
    )
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores,"
        f" {machine['system']}, {machine['python']},"
        f" load average {machine['load']} before the run.\n"
        f"{versions}.\n"
        f"Profile {options['profile']}: up to {options['rounds']} rounds of"
        f" {options['seconds']} s, transfers of {options['transfers']},"
        " one server process on one core, the load on another."
    )


def render_group(group: str, rows: list[Row]) -> str:
    contenders = [*dict.fromkeys(name for row in rows for name in row.cells)]
    # Fixed, so that tables of different runs can be laid side by side.
    contenders.sort(key=lambda name: [*COMMANDS, name].index(name))
    compares = "djserve" in contenders
    head = ["", "unit", *(title_of(name) for name in contenders)]
    lines = [head + ["vs four"] * compares]
    lines.append(["---"] * 2 + ["---:"] * (len(lines[0]) - 2))
    for row in rows:
        cells = [render_cell(row.cells.get(name)) for name in contenders]
        ratio = [render_ratio(row)] * compares
        lines.append([f"{row.title} (`{row.name}`)", row.unit, *cells, *ratio])
    lines += [line for row in rows if (line := cost_line(row, contenders))]
    return "\n".join([f"### {group}\n", *(f"| {' | '.join(c)} |" for c in lines)])


def cost_line(row: Row, contenders: list[str]) -> list[str]:
    """Return a second line for a scenario with load: the server's CPU time."""
    costs = {name: cell.cost for name in contenders if (cell := row.cells.get(name))}
    if not row.is_rate or not any(costs.values()):
        return []
    cells = [format_number(cost) if (cost := costs.get(n)) else "-" for n in contenders]
    ratio = row.cost_ratio()
    shown = ["-" if ratio is None else f"{ratio:.2f}"] * ("djserve" in contenders)
    unit = row.unit.removesuffix("s/s").removesuffix("/s")
    return [f"server CPU (`{row.name}`)", f"µs/{unit}", *cells, *shown]


def render_cell(cell: Cell | None) -> str:
    if cell is None or cell.median is None:
        return "-"
    spread = f" ±{cell.spread:.0%}".replace("%", "") if len(cell.values) > 1 else ""
    return f"{format_number(cell.median)}{spread}{'°' if cell.is_idle else ''}"


def render_ratio(row: Row) -> str:
    ratio = row.ratio()
    return "-" if ratio is None else f"{ratio:.2f}"


def render_ahead(results: Results) -> str:
    """Return the rows in which a peer is ahead, with the reasons."""
    leads = find_leads(results)
    if not leads:
        return ""
    lines = [["work", "djserve", "best peer", "ratio", "ratio by CPU", "why"]]
    lines.append(["---"] + ["---:"] * 4 + ["---"])
    lines += [ahead_line(lead) for lead in leads]
    return "\n".join([f"{AHEAD_LEGEND}\n", *(f"| {' | '.join(c)} |" for c in lines)])


def ahead_line(lead: Lead) -> list[str]:
    row, figure, cost = lead.row, lead.figure, lead.cost
    cost_ratio = "-" if cost is None else render_comparison(cost)
    if cost and cost.peer != figure.peer:
        cost_ratio += f" ({title_of(cost.peer)})"
    return [
        f"{row.group}: {row.title} (`{row.name}`), {row.unit}",
        render_cell(row.cells["djserve"]),
        f"{title_of(figure.peer)} {render_cell(row.cells[figure.peer])}",
        render_comparison(figure),
        cost_ratio,
        lead.reason or ("The rounds overlap." if lead.is_noise else UNEXPLAINED),
    ]


def render_comparison(comparison: Comparison) -> str:
    ratio = "-" if comparison.ratio is None else f"{comparison.ratio:.2f}"
    is_noise = comparison.is_behind and comparison.is_noise
    return f"{ratio}, noise" if is_noise else ratio


def render_goals(results: Results) -> str:
    verdicts = judge(results)
    if not verdicts:
        return ""
    lines = [
        "### Goals\n",
        "| work | goal | measured | met |",
        "| --- | --- | ---: | --- |",
    ]
    lines += [
        f"| {verdict.title} | {verdict.goal} | {verdict.measured} |"
        f" {'yes' if verdict.is_met else MISSED} |"
        for verdict in verdicts
    ]
    return "\n".join(lines)


def render_idle(results: Results) -> str:
    """Return what a request costs beside more and more idle connections."""
    growths = [growth for name in COMMANDS if (growth := growth_of(results, name))]
    if not growths:
        return ""
    heads = [f"beside {count:,}" for count in growths[0].costs]
    lines = [["server CPU per request, µs", *heads, "grows"]]
    lines.append(["---", *["---:"] * len(heads), "---"])
    lines += [idle_line(growth) for growth in growths]
    return "\n".join(
        ["### Idle connections\n", *(f"| {' | '.join(c)} |" for c in lines)]
    )


def idle_line(growth: Growth) -> list[str]:
    figures = [format_number(cost) for cost in growth.costs.values()]
    answer = "yes" if growth.is_real else "no"
    change = f"{growth.change:+.0%}, rounds differ by ±{growth.spread:.0%}"
    shown = f"{answer} ({change})".replace("%", " %")
    return [title_of(growth.contender), *figures, shown]


def render_problems(results: Results) -> str:
    lines = [
        f"- {title_of(name)}, `{row.name}`: failed {cell.failures} x:"
        f" {' '.join(cell.problem.split())[:300]}"
        for row in results.rows
        for name, cell in row.cells.items()
        if cell.problem
    ]
    return "\n".join(["### What did not work\n", *lines]) if lines else ""


def run_of(results: Results) -> str:
    """Name a run: the code that was measured, and the day."""
    return f"djserve {results.versions.get('djserve', '')}, {results.machine['date']}"


def published_run(page: str, name: str) -> str:
    """Name the run that a page's block is of, as ``run_of`` does; "" without one."""
    begin, end = marks(name)
    block = page.partition(begin)[2].partition(end)[0]
    found = re.search(r"^(\S+), .*\n(djserve [^,]+), ", block, re.MULTILINE)
    return f"{found[2]}, {found[1]}" if found else ""


def marks(name: str) -> tuple[str, str]:
    """Return the comments between which a page has the block of this name."""
    begin = f"<!-- {name}: begin (written by python -m benchmarks) -->"
    return begin, f"<!-- {name}: end -->"


def rewrite_block(page: Path, name: str, text: str) -> None:
    """Put the text between a page's two marks; raises ValueError where they miss."""
    before = page.read_text("utf-8")
    begin, end = marks(name)
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after, count = pattern.subn(lambda _: f"{begin}\n\n{text}\n{end}", before)
    if count != 1:
        raise ValueError(f"{page} has {count} blocks {name!r}, expected 1")
    page.write_text(after, "utf-8")
