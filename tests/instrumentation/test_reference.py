"""The pages of metrics and loggers are what the code has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.instrumentation.reference import (
    FOLDER,
    LOGGERS,
    main,
    render_metrics,
)

PACKAGE = Path(__file__).resolve().parents[2] / "djserve"


def find_loggers() -> Iterator[str]:
    """Yield the names that the code gives to getLogger()."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("getLogger")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value)


def test_pages_are_up_to_date() -> None:
    assert main(["--check"]) == 0


def test_page_that_differs_is_named_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.md").write_text((FOLDER / "metrics.md").read_text())
    check = ["--check", "--folder", str(tmp_path)]

    assert main(check) == 1
    told = capsys.readouterr().err
    assert "logs.md is out of date" in told
    assert "metrics.md" not in told
    assert main(["--write", "--folder", str(tmp_path)]) == 0
    assert main(check) == 0


def test_every_logger_of_the_code_is_listed() -> None:
    ours = {name for name in find_loggers() if name.split(".")[0] == "djserve"}

    assert ours == set(LOGGERS)


def test_rows_have_type_labels_and_text() -> None:
    page = render_metrics()

    assert (
        "| `djserve_requests_total` | counter | `method`, `protocol`, `status` |"
        in page
    )
    assert "| `djserve_request_duration_seconds` | histogram |  |" in page
    assert "| `djserve_limits_reached_total` | counter | `setting` |" in page
    assert "Connections beyond `CONNECTION_LIMIT`." in page
    assert "| `djserve_processes` | gauge | `name` |" in page
