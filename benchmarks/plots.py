"""Results as pictures, SVG and PNG: bars of each group, and all ratios on one page."""

from __future__ import annotations

import importlib
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.model import Results, Row, format_number
from benchmarks.tables import render_ratio, title_of

OURS = "#0c7a52"
OTHERS = "#9aa5b1"
PANELS_ACROSS = 3


def plot_all(results: Results, folder: Path) -> list[Path]:
    """Write the pictures into a folder; return their paths."""
    pyplot = load_pyplot()
    written: list[Path] = []
    rows = sorted(results.rows, key=lambda row: row.group)
    for group, members in groupby(rows, key=lambda row: row.group):
        shown = [row for row in members if any(c.values for c in row.cells.values())]
        if shown:
            name = "".join(c for c in group.lower() if c.isalnum())
            figure = plot_group(pyplot, group, shown)
            written += save(pyplot, figure, folder / f"benchmark-{name}")
    compared = [row for row in results.rows if row.ratio() is not None]
    if compared:
        figure = plot_ratios(pyplot, compared)
        written += save(pyplot, figure, folder / "benchmark")
    return written


def load_pyplot() -> Any:
    # By name: matplotlib is in the benchmarks' environment alone.
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "djserve"
    matplotlib.rcParams["font.size"] = 9
    return importlib.import_module("matplotlib.pyplot")


def plot_group(pyplot: Any, group: str, rows: list[Row]) -> Any:
    across = min(PANELS_ACROSS, len(rows))
    down = -(-len(rows) // across)
    figure, panels = pyplot.subplots(
        down, across, figsize=(4.6 * across, 2.7 * down), squeeze=False
    )
    for panel in panels.flat[len(rows) :]:
        panel.axis("off")
    for panel, row in zip(panels.flat, rows, strict=False):
        draw_bars(panel, row)
    figure.suptitle(group, fontweight="bold")
    figure.tight_layout()
    return figure


def draw_bars(panel: Any, row: Row) -> None:
    """Draw one scenario: a bar for each contender, its rounds as a line."""
    cells = {name: cell for name, cell in row.cells.items() if cell.values}
    values = [cell.median or 0 for cell in cells.values()]
    errors = [cell.spread * (cell.median or 0) for cell in cells.values()]
    bars = panel.barh(
        [title_of(name) for name in cells],
        values,
        xerr=errors,
        color=[OURS if name == "djserve" else OTHERS for name in cells],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    panel.bar_label(bars, [f" {format_number(value)}" for value in values], padding=3)
    panel.invert_yaxis()
    panel.margins(x=0.25)
    panel.set_xticks([])
    panel.spines[["top", "right", "bottom"]].set_visible(False)
    hint = ", less is better" if row.less_is_better else ""
    panel.set_title(f"{row.title}\n{row.unit}{hint}", fontsize=8)


def plot_ratios(pyplot: Any, rows: list[Row]) -> Any:
    """Draw how many times better djserve is than the best of the four."""
    figure, panel = pyplot.subplots(figsize=(10, 0.3 * len(rows) + 1.2))
    ratios = [row.ratio() or 1 for row in rows]
    # From 1 to both sides: what is twice as good is as long as what is half as good.
    bars = panel.barh(
        [f"{row.group}: {row.title}" for row in rows],
        [ratio - 1 for ratio in ratios],
        left=1,
        color=[OURS if ratio >= 1 else OTHERS for ratio in ratios],
    )
    panel.bar_label(bars, [f" {render_ratio(row)} x" for row in rows], padding=3)
    panel.set_xscale("log")
    panel.axvline(1, color="black", linewidth=1)
    panel.invert_yaxis()
    panel.margins(x=0.3)
    panel.set_xticks([])
    panel.minorticks_off()
    panel.tick_params(length=0)
    panel.spines[["top", "right", "bottom", "left"]].set_visible(False)
    figure.suptitle(
        "djserve and the best of Daphne, Uvicorn, Hypercorn, Granian: times better",
        fontsize=9,
    )
    figure.tight_layout()
    return figure


def save(pyplot: Any, figure: Any, stem: Path) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=120)
    pyplot.close(figure)
    return paths
