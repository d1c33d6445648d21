"""The hosted workflow calls targets that exist, on the versions that are declared."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def read_jobs() -> dict[str, Any]:
    text = (ROOT / ".github/workflows/tests.yml").read_text("utf-8")
    jobs: dict[str, Any] = yaml.safe_load(text)["jobs"]
    return jobs


def test_each_job_makes_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name, job in read_jobs().items():
        commands = "\n".join(step.get("run", "") for step in job["steps"])
        targets = re.findall(r"^make ([\w-]+)", commands, re.MULTILINE)
        assert targets, name
        for target in targets:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_versions_of_the_classifiers_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pattern = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    declared = {
        match[1] for text in project["classifiers"] if (match := pattern.match(text))
    }
    jobs = read_jobs()
    linux = {
        entry["python"] for entry in jobs["linux"]["strategy"]["matrix"]["include"]
    }
    desktop = set(jobs["desktop"]["strategy"]["matrix"]["python"])
    assert declared
    assert declared <= linux
    assert declared <= desktop


def test_actions_are_pinned_to_the_same_commits_everywhere() -> None:
    """A tag can be moved; dependabot knows the version by the comment behind it."""
    pins: defaultdict[str, set[str]] = defaultdict(set)
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for line in re.findall(r"uses:(.*)", path.read_text("utf-8")):
            found = re.fullmatch(r" ([\w/-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
            assert found, f"{path.name}:{line}"
            pins[found[1]].add(found[2])

    assert "pypa/gh-action-pypi-publish" in pins
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}


def test_no_checkout_leaves_its_token_to_the_tests() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False, path.name


def test_dependencies_are_watched() -> None:
    text = (ROOT / ".github/dependabot.yml").read_text("utf-8")
    watched = {entry["package-ecosystem"] for entry in yaml.safe_load(text)["updates"]}
    assert watched == {"pip", "github-actions"}


@pytest.mark.e2e
def test_lowest_versions_are_those_of_the_project() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / ".ci/lowest.py"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    pins = dict(line.split("==") for line in ended.stdout.splitlines())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for text in project["dependencies"]:
        name, _, rest = text.partition(">=")
        lowest = re.split("[,;]", rest)[0]
        assert pins[name.partition("[")[0]] == f"{lowest}.*"
