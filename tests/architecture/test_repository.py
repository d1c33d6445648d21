"""What must not stand in any file of the repository, and ids that must be unique."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NOT_OURS = {
    "__pycache__",
    "build",
    "dist",
    "media",
    "var",
    "node_modules",
    "site",
    "staticfiles",
}
HIDDEN_BUT_OURS = {".ci", ".gitignore", ".pre-commit-config.yaml"}

# Written in halves, so that this file does not hold what it forbids.
REGISTRY_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "crates" + ".io",
    "ruby" + "gems.org",
    "golang" + ".org",
    "deb." + "debian.org",
]
MACHINE_PATH = re.compile(r"(?<![\w.}>)])/(?:wo" + r"rk|ro" + r"ot)/")
CHECK_ID = re.compile(r"""\bid=["'](djserve\.[EWI]\d{3})["']""")

RELATIVE_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
EXTRAS = re.compile(r"^-e \.\[([^\]]+)\]$", re.MULTILINE)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def is_ours(name: str) -> bool:
    if name.startswith("."):
        return name in HIDDEN_BUT_OURS
    return name not in NOT_OURS and not name.endswith(".egg-info")


def text_files(top: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the content of each text file that the project keeps."""
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if is_ours(name)]
        for name in filter(is_ours, names):
            path = Path(folder, name)
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_names_a_package_registry() -> None:
    named = [
        (path, host)
        for path, text in text_files(ROOT)
        for host in REGISTRY_HOSTS
        if host in text
    ]

    assert named == []


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = [
        (path, match.group())
        for path, text in text_files(ROOT)
        for match in MACHINE_PATH.finditer(text)
    ]

    assert found == []


def test_each_check_id_is_defined_once() -> None:
    ids = Counter(
        check_id
        for _, text in text_files(ROOT / "djserve")
        for check_id in CHECK_ID.findall(text)
    )

    assert [check_id for check_id, count in ids.items() if count > 1] == []


def test_links_of_pages_lead_to_files() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in RELATIVE_LINK.findall(page.read_text("utf-8"))
    ]

    assert len(links) > 100
    assert [
        (page.name, link) for page, link in links if not (page.parent / link).exists()
    ] == []


def test_requirements_name_extras_that_the_project_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {
        extra
        for file in (ROOT / "requirements").glob("*.txt")
        for extras in EXTRAS.findall(file.read_text("utf-8"))
        for extra in extras.split(",")
    }

    assert named
    assert named <= project["optional-dependencies"].keys()
