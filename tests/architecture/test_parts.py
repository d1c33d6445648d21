"""How the files of ``make unit`` are divided among its processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.parts import TESTS, divide, is_all_e2e, is_left_out

MARKED = [
    "pytestmark = pytest.mark.e2e\n",
    "import pytest\n\npytestmark = [pytest.mark.e2e, pytest.mark.browser]\n",
    'pytestmark = [\n    pytest.mark.skipif(x, reason="y"),\n    pytest.mark.e2e,\n]\n',
]

NOT_MARKED = [
    "pytestmark = pytest.mark.django_db\n",
    "@pytest.mark.e2e\ndef test_one() -> None: ...\n",
    "    pytestmark = pytest.mark.e2e\n",
    "pytestmark = [pytest.mark.django_db]\n\n\n@pytest.mark.e2e\ndef test_one(): ...\n",
]


@pytest.mark.parametrize("text", MARKED)
def test_module_that_marks_all_is_left_out(text: str) -> None:
    assert is_all_e2e(text)


@pytest.mark.parametrize("text", NOT_MARKED)
def test_module_that_may_have_a_unit_is_read(text: str) -> None:
    assert not is_all_e2e(text)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_file_is_in_one_part(count: int) -> None:
    parts = divide(TESTS, count)
    found = {file for part in parts for file in part}

    assert len(parts) == count
    assert sum(map(len, parts)) == len(found) > 300
    assert Path(__file__) in found


def test_parts_are_about_as_long(tmp_path: Path) -> None:
    for number, size in enumerate([90, 50, 40, 10, 0]):
        (tmp_path / f"test_{number}.py").write_text("#" * size)
    (tmp_path / "test_process.py").write_text("pytestmark = pytest.mark.e2e\n")
    (tmp_path / "support.py").write_text("#" * 500)

    names = [sorted(file.name for file in part) for part in divide(tmp_path, 2)]

    assert names == [
        ["test_0.py", "test_3.py"],
        ["test_1.py", "test_2.py", "test_4.py"],
    ]


def test_file_is_read_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = []
    for part in ("0/2", "1/2"):
        monkeypatch.setenv("DJSERVE_UNIT_PART", part)
        left_out.append(is_left_out(Path(__file__)))

    assert sorted(left_out) == [False, True]
