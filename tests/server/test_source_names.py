"""Names that a module binds, without its import."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from djserve.server.source_names import read_names


def names_of(folder: Path, source: str) -> set[str] | None:
    path = folder / "unimported_module.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("unimported_module", path)
    assert spec is not None
    return read_names(spec)


@pytest.mark.parametrize(
    "source",
    [
        "app = 1",
        "app: object = 1",
        "a, (b, *app) = 1, (2, 3)",
        "def app(): pass",
        "async def app(): pass",
        "class app: pass",
        "import app.other",
        "import other as app",
        "from other import app",
        "from other import one as app",
        "if x:\n    pass\nelse:\n    app = 1",
        "try:\n    pass\nfinally:\n    app = 1",
        "with x as app:\n    pass",
        "for app in x:\n    pass",
        "(app := 1)",
        "def f():\n    global app\n    app = 1",
        "match x:\n    case {**app}:\n        pass",
    ],
)
def test_name_that_a_module_binds_is_found(tmp_path: Path, source: str) -> None:
    names = names_of(tmp_path, source)

    assert names is not None
    assert "app" in names


@pytest.mark.parametrize("source", ["", "application = 1", "app.x = 1", "print(app)"])
def test_name_that_is_not_bound_is_not_found(tmp_path: Path, source: str) -> None:
    names = names_of(tmp_path, source)

    assert names is not None
    assert "app" not in names


@pytest.mark.parametrize(
    "source",
    [
        "from other import *",
        "def __getattr__(name): pass",
        "globals()['app'] = 1",
        "exec('app = 1')",
        "import sys\nsys.modules[__name__] = 1",
        "setattr(m, 'app', 1)",
        "m.__dict__['app'] = 1",
        "syntax error",
    ],
)
def test_names_that_only_the_import_shows_are_not_guessed(
    tmp_path: Path, source: str
) -> None:
    assert names_of(tmp_path, source) is None


def test_imported_module_is_asked_itself() -> None:
    spec = importlib.util.find_spec("json.decoder")

    assert spec is not None
    assert "JSONDecoder" in (read_names(spec) or ())
