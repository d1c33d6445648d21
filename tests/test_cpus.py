"""CPUs by affinity, by the quota of a control group, and by Python's own variable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.cpus import CPUs, count_cpus, find_quota, measure_cpus

USABLE = len(os.sched_getaffinity(0))
V1_CPU = Path("/sys/fs/cgroup/cpu")
V2 = Path("/sys/fs/cgroup")


class Tree:
    """What /proc/self says of a process's groups, and the groups' files."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "proc"
        self.mount = folder / "fs"
        self.process.mkdir()
        self.mount.mkdir()

    def enter(self, *groups: str) -> None:
        (self.process / "cgroup").write_text("".join(f"{each}\n" for each in groups))

    def mount_v2(self, root: str = "/") -> None:
        self._mount(f"{root} {self.mount}", "cgroup2 cgroup2 rw")

    def mount_v1(self, root: str = "/", controllers: str = "cpu,cpuacct") -> None:
        self._mount(f"{root} {self.mount}", f"cgroup cgroup rw,{controllers}")

    def _mount(self, place: str, kind: str) -> None:
        line = f"31 23 0:28 {place} rw,nosuid shared:9 - {kind}\n"
        (self.process / "mountinfo").write_text(
            "24 30 0:22 / /proc rw - proc proc rw\nbroken\n" + line
        )

    def write(self, group: str, **files: str) -> Path:
        folder = self.mount / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"cpu.{name}").write_text(f"{text}\n")
        return folder

    @property
    def share(self) -> float | None:
        quota = find_quota(self.process)
        return None if quota is None else quota.share


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_cpus_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: {1, 2, 3})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)

    assert measure_cpus({}, Path("/none")) == CPUs(
        3, "3 of 8 CPUs, by the process's affinity"
    )


def test_systems_without_affinity_have_all_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)

    assert measure_cpus({}, Path("/none")) == CPUs(1, "1 CPU")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert measure_cpus({}, Path("/none")).count == 1


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("12", 12), ("default", None), ("0", None), ("x", 0)]
)
def test_variable_of_python_replaces_what_is_counted(
    tree: Tree, text: str, count: int | None
) -> None:
    tree.enter("0::/")
    tree.mount_v2()
    tree.write("", max="20000 100000")
    found = measure_cpus({"PYTHON_CPU_COUNT": text}, tree.process)

    if count:
        assert found == CPUs(count, f"PYTHON_CPU_COUNT={count}")
    else:
        assert found.share == 0.2


@pytest.mark.parametrize(
    ("options", "count"),
    [(["-X", "cpu_count=5"], "5"), (["-E", "-X", "cpu_count=5"], "5"), ([], "3")],
)
@pytest.mark.e2e
def test_option_of_python_comes_before_its_variable(
    options: list[str], count: str
) -> None:
    code = "from djserve.cpus import count_cpus; print(count_cpus())"
    environ = {**os.environ, "PYTHON_CPU_COUNT": "3"}
    path = str(Path(__file__).parent.parent)
    command = [
        sys.executable,
        *options,
        "-c",
        f"import sys; sys.path.insert(0, {path!r}); {code}",
    ]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environ
    )

    assert done.stdout.strip() == count


@pytest.mark.parametrize(
    ("share", "count"), [(0.1, 1), (1, 1), (1.5, 2), (2, 2), (2.01, 3)]
)
def test_part_of_a_cpu_counts_as_one(share: float, count: int) -> None:
    assert CPUs(share, "").count == count


def test_quota_of_a_container_counts(tree: Tree) -> None:
    tree.enter("0::/")
    tree.mount_v2()
    tree.write("", max="50000 100000")
    found = measure_cpus({}, tree.process)

    assert found.share == 0.5
    assert found.source == f"0.5 of {USABLE} CPUs, by {tree.mount}/cpu.max"


def test_narrowest_group_on_the_way_counts(tree: Tree) -> None:
    tree.enter("0::/pods/one/web")
    tree.mount_v2()
    tree.write("", max="max 100000")
    tree.write("pods", max="150000 100000")
    tree.write("pods/one", max="30000 50000")
    tree.write("pods/one/web", max="max 100000")
    tree.write("pods/two", max="1000 100000")

    assert tree.share == 0.6


def test_quota_above_the_affinity_does_not_count(tree: Tree) -> None:
    tree.enter("0::/")
    tree.mount_v2()
    tree.write("", max=f"{(USABLE + 1) * 100000} 100000")

    assert tree.share == USABLE + 1
    assert measure_cpus({}, tree.process).share == USABLE


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_quota_of_version_1_counts(tree: Tree, controllers: str) -> None:
    tree.enter("5:memory:/x", f"3:{controllers}:/docker/ab", "0::/system")
    tree.mount_v1(controllers=controllers)
    tree.write("docker", cfs_quota_us="-1", cfs_period_us="100000")
    tree.write("docker/ab", cfs_quota_us="250000", cfs_period_us="100000")

    assert tree.share == 2.5


@pytest.mark.parametrize("version", [1, 2])
def test_container_that_sees_the_path_of_the_machine(tree: Tree, version: int) -> None:
    """Without a namespace of its own for groups, its own folder is the mount."""
    group = "/kubepods/pod 1/ab"
    root = group.replace(" ", r"\040")
    if version == 1:
        tree.enter(f"3:cpu:{group}")
        tree.mount_v1(root)
        tree.write("", cfs_quota_us="100000", cfs_period_us="200000")
    else:
        tree.enter(f"0::{group}")
        tree.mount_v2(root)
        tree.write("", max="100000 200000")

    assert tree.share == 0.5


@pytest.mark.parametrize("group", ["/../other", "/../../a/b", "/elsewhere"])
def test_group_outside_of_what_is_mounted(tree: Tree, group: str) -> None:
    tree.enter(f"0::{group}")
    tree.mount_v2("/" if ".." in group else "/mine")
    tree.write("", max="100000 200000")

    assert tree.share == 0.5


@pytest.mark.parametrize(
    "text", ["max 100000", "", "x y", "100000", "100000 0", "-1 100000", "0 100000"]
)
def test_group_without_a_quota(tree: Tree, text: str) -> None:
    tree.enter("0::/")
    tree.mount_v2()
    tree.write("", max=text)

    assert tree.share is None
    assert measure_cpus({}, tree.process).share == USABLE


@pytest.mark.parametrize("text", ["", "broken", "0::", "9:name=systemd:/"])
def test_broken_or_foreign_description_is_no_quota(tree: Tree, text: str) -> None:
    tree.mount_v2()
    tree.enter(text)

    assert tree.share is None


@pytest.fixture
def real_group() -> Iterator[tuple[Path, str]]:
    """Make a group with a quota of 0.3 CPUs; yield it and the name of its file."""
    folder: Path | None = None
    try:
        if (V1_CPU / "cpu.cfs_quota_us").exists():
            folder = V1_CPU / f"djserve-{os.getpid()}"
            folder.mkdir()
            (folder / "cpu.cfs_quota_us").write_text("30000")
            name = "cpu.cfs_quota_us"
        else:
            folder = V2 / f"djserve-{os.getpid()}"
            folder.mkdir()
            (folder / "cpu.max").write_text("30000 100000")
            name = "cpu.max"
    except OSError as error:
        if folder is not None and folder.exists():
            folder.rmdir()
        pytest.skip(f"No control group can be made here: {error}")
    yield folder, name
    folder.rmdir()


@pytest.mark.e2e
def test_real_group_with_a_quota(real_group: tuple[Path, str]) -> None:
    folder, name = real_group
    inner = folder / "inner"
    inner.mkdir()
    path = str(Path(__file__).parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {path!r}); "
        "from djserve.cpus import measure_cpus; "
        "found = measure_cpus({}); print(found.share, found.source)"
    )
    try:
        # The shell moves itself, then becomes the interpreter.
        script = 'echo $$ > "$1/cgroup.procs" && exec "$2" -c "$3"'
        done = subprocess.run(
            ["sh", "-c", script, "sh", str(inner), sys.executable, code],
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        inner.rmdir()

    assert done.stdout.strip() == f"0.3 0.3 of {USABLE} CPUs, by {folder / name}"


def test_number_is_one_at_least() -> None:
    assert 1 <= count_cpus() <= max(USABLE, 1)
