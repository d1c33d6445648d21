"""Build the distributions into dist/, and check them: ``make dist``.

The commit is built twice, in two clean copies, and both results have to be the same
byte for byte. SOURCE_DATE_EPOCH is the time of all files in them; it is the commit's by
default.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PICTURE = re.compile(r"^!\[[^\]]*\]\((?!https?:)([^)]+)\)\n", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--no-install", action="store_true", help="do not install what was built"
    )
    options = parser.parse_args()
    warn_of_changes()
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or run(
        "git", "log", "-1", "--format=%ct"
    )
    with tempfile.TemporaryDirectory() as folder:
        builds = [build(Path(folder, name), int(epoch)) for name in ("one", "other")]
        compare(*builds)
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.copytree(builds[0], DIST)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    check_wheel(wheel)
    check_sdist(sdist)
    if not options.no_install:
        check_installation(wheel)
    for path in (sdist, wheel):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes, reproducible")
    return 0


def run(*command: str, cwd: Path = ROOT, **variables: str) -> str:
    """Run a command and return what it prints; end with its errors if it fails."""
    environ = {**os.environ, **variables}
    result = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(f"{' '.join(command)}:\n{result.stdout}{result.stderr}")
    return result.stdout.strip()


def warn_of_changes(folder: Path = ROOT) -> None:
    """Name the files whose changes are not in the commit that is built."""
    status = ("git", "status", "--porcelain", "--untracked-files=no")
    changed = [
        line.split(maxsplit=1)[1] for line in run(*status, cwd=folder).splitlines()
    ]
    if changed:
        print(f"Not committed, so not built: {', '.join(changed)}", file=sys.stderr)


def build(folder: Path, epoch: int) -> Path:
    """Build both distributions in a copy of the commit, and return their folder."""
    folder.mkdir()
    archive = folder / "commit.tar"
    run("git", "archive", "-o", str(archive), "HEAD")
    source = folder / "source"
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    rewrite_readme(source)
    command = (sys.executable, "-m", "build", "--no-isolation", ".")
    run(*command, cwd=source, SOURCE_DATE_EPOCH=str(epoch))
    for sdist in (source / "dist").glob("*.tar.gz"):
        normalise(sdist, epoch)
    return source / "dist"


def rewrite_readme(source: Path) -> None:
    """Make the README's links absolute, for it is read away from its files.

    Without an address in [project.urls] there is nothing that they could lead to: the
    pictures are left out, and the links are plain text.
    """
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    address = project.get("urls", {}).get("Source", "").rstrip("/")
    path = source / "README.md"
    path.write_text(make_absolute(path.read_text("utf-8"), address), "utf-8")


def make_absolute(text: str, address: str) -> str:
    """Return the README with absolute links below the repository's address."""
    if not address:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    text = PICTURE.sub(
        lambda match: match[0].replace(match[1], f"{address}/raw/HEAD/{match[1]}"), text
    )
    return LINK.sub(rf"[\1]({address}/blob/HEAD/\2)", text)


def normalise(path: Path, epoch: int) -> None:
    """Pack a source distribution anew: sorted, without owners and times of its own."""
    packed = io.BytesIO()
    with (
        tarfile.open(path) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.mtime = epoch
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as gz:
        gz.write(packed.getvalue())


def compare(one: Path, other: Path) -> None:
    """End if two builds differ."""
    names = sorted(path.name for path in one.iterdir())
    if names != sorted(path.name for path in other.iterdir()):
        sys.exit("The builds have different files")
    for name in names:
        if (one / name).read_bytes() != (other / name).read_bytes():
            sys.exit(f"{name} differs from one build to the other")


def check_wheel(path: Path) -> None:
    """End if the wheel has what it should not have, or lacks what it should."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    strays = [name for name in names if not name.startswith(("djserve/", "djserve-"))]
    modules = set(run("git", "ls-files", "djserve/**.py", "djserve/*.py").splitlines())
    missing = sorted({*modules, "djserve/py.typed"} - set(names))
    if strays or missing:
        sys.exit(f"{path.name}: strays {strays}, missing {missing}")


def check_sdist(path: Path) -> None:
    """End if the source distribution has stray files, or lacks what it should have."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "pyproject.toml", "djserve/__init__.py"}
    strays = [name for name in names if name.startswith(("tests", "benchmarks", "."))]
    if strays or wanted - names:
        sys.exit(f"{path.name}: strays {strays}, missing {sorted(wanted - names)}")


def check_installation(wheel: Path) -> None:
    """Install the wheel in an empty environment, and use it there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-q")
        run(*pip, str(wheel), cwd=Path(folder))
        run(python, "-c", "import djserve, djserve.serving", cwd=Path(folder))
        version = run(f"{folder}/bin/djserve", "--version", cwd=Path(folder))
        if version.split()[-1] != wheel.name.split("-")[1]:
            sys.exit(f"The installed version is {version}")
        run(python, "-m", "djserve.doctor", "--from", "daphne a:b", cwd=Path(folder))


if __name__ == "__main__":
    sys.exit(main())
