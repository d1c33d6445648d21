"""What ``make dist`` makes of the README and of a source distribution."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = "![Chart](docs/a.svg)\n\nSee [it](docs/b.md#c), [this](https://example.com).\n"


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    path = ROOT / ".ci" / "dist.py"
    spec = importlib.util.spec_from_file_location("dist_program", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_to_the_repository(dist: ModuleType) -> None:
    text = dist.make_absolute(README, "https://example.org/x")

    assert text == (
        "![Chart](https://example.org/x/raw/HEAD/docs/a.svg)\n\n"
        "See [it](https://example.org/x/blob/HEAD/docs/b.md#c), "
        "[this](https://example.com).\n"
    )


def test_links_without_an_address_are_text(dist: ModuleType) -> None:
    assert dist.make_absolute(README, "") == (
        "\nSee it, [this](https://example.com).\n"
    )


def test_source_distributions_of_two_times_are_the_same(
    dist: ModuleType, tmp_path: Path
) -> None:
    packed = []
    for mtime, names in ((1, ["a", "b"]), (2, ["b", "a"])):
        path = tmp_path / f"{mtime}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size, member.mtime, member.uid = 1, mtime, mtime
                archive.addfile(member, io.BytesIO(name.encode()))
        dist.normalise(path, 1000)
        packed.append(path.read_bytes())

    assert packed[0] == packed[1]


@pytest.mark.e2e
def test_changes_that_are_not_committed_are_named(
    dist: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("1")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    dist.warn_of_changes(tmp_path)
    assert capsys.readouterr().err == ""

    (tmp_path / "b.py").write_text("2")
    (tmp_path / "new.py").write_text("3")
    dist.warn_of_changes(tmp_path)
    assert capsys.readouterr().err == "Not committed, so not built: b.py\n"
