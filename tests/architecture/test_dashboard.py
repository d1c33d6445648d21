"""The dashboard in deploy/ asks only for metrics that the server has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from djserve.instrumentation.board import Board
from djserve.instrumentation.figures import read_figures
from djserve.instrumentation.metrics import render

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "djserve.json"


def read_dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return dashboard


def find_queries() -> list[str]:
    dashboard = read_dashboard()
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [
        variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    return [target["expr"] for target in targets] + variables


def find_samples() -> dict[str, str]:
    """Return the metrics as a new server gives them: series by family."""
    board = Board()
    text = render(read_figures([("1", board)])).decode()
    board.close()
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_queries_name_metrics_that_exist() -> None:
    kinds = find_samples()
    series = set(kinds)
    for name, kind in kinds.items():
        if kind == "histogram":
            series |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    asked = {
        name for query in find_queries() for name in re.findall(r"djserve_\w+", query)
    }

    assert len(asked) > 10
    assert asked <= series


def test_counters_are_asked_for_their_rate() -> None:
    kinds = find_samples()
    for query in find_queries():
        for name in re.findall(r"djserve_\w+", query):
            is_gauge = kinds.get(name) == "gauge"
            is_rated = re.search(rf"(rate|increase)\({name}\b", query) is not None
            assert is_rated is not is_gauge, query


def test_panels_do_not_overlap() -> None:
    panels = read_dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}

    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)
