"""The CPUs that this process may use, and what says how many.

The CPUs of its affinity (``taskset``, a cpuset), or less if a control group on the way
to the process has a quota of CPU time: a container with ``--cpus 2`` on a machine of 64
still sees 64. PYTHON_CPU_COUNT or ``python -X cpu_count`` replaces both.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from djserve.postponed import pattern
from djserve.values import Values

VARIABLE = "PYTHON_CPU_COUNT"
"""Python 3.13 and later obey it; here it counts with every version."""

PROCESS = Path("/proc/self")
"""What Linux says of this process."""

_OCTAL = pattern(r"\\([0-7]{3})")


class CPUs(Values):
    """CPUs that may be used at once, and why there are so many.

    ``share`` is a fraction under a quota such as half a CPU.
    """

    share: float
    source: str

    @property
    def count(self) -> int:
        """The number of processes that can use them: a part counts as one."""
        return max(1, math.ceil(self.share))


class Quota(NamedTuple):
    """CPU time that a control group may use in each second, and the file with it."""

    share: float
    path: Path


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return measure_cpus().count


def measure_cpus(
    environ: Mapping[str, str] = os.environ, process: Path = PROCESS
) -> CPUs:
    """Return the CPUs that this process may use; never fails."""
    given = _read_override(environ)
    if given is not None:
        return given
    whole = os.cpu_count() or 1
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:
        # Python 3.13 may know of a limit on other systems too.
        usable = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    quota = find_quota(process)
    if quota is not None and quota.share < usable:
        return CPUs(quota.share, f"{quota.share:g} of {usable} CPUs, by {quota.path}")
    if usable < whole:
        return CPUs(usable, f"{usable} of {whole} CPUs, by the process's affinity")
    return CPUs(usable, f"{usable} CPU{'s' * (usable > 1)}")


def find_quota(process: Path = PROCESS) -> Quota | None:
    """Return the narrowest quota of all control groups that the process is in."""
    try:
        return min(_read_quotas(process), default=None)
    except (OSError, ValueError):
        # Neither Linux nor a /proc that can be read: affinity alone counts.
        return None


def _read_override(environ: Mapping[str, str]) -> CPUs | None:
    """Return what somebody has said; "default" there is Python's own count."""
    name, text = VARIABLE, environ.get(VARIABLE, "")
    if "cpu_count" in sys._xoptions:
        name, text = "-X cpu_count", str(sys._xoptions["cpu_count"])
    elif sys.flags.ignore_environment:
        return None
    if not text.isdecimal() or not int(text):
        return None
    return CPUs(int(text), f"{name}={int(text)}")


def _read_quotas(process: Path) -> Iterator[Quota]:
    """Yield the quotas of this process's groups and of all above, as far as seen."""
    groups = dict(_read_groups(process))
    for mount, root, controller in _read_mounts(process):
        group = groups.get(controller)
        if group is None:
            continue
        for folder in _climb(mount, root, group):
            quota = _read_quota(folder, controller)
            if quota is not None:
                yield quota


def _read_groups(process: Path) -> Iterator[tuple[str, str]]:
    """Yield the controller, "" in version 2, and the path of each control group."""
    for line in (process / "cgroup").read_text("utf-8", "replace").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield "", path
        elif "cpu" in controllers.split(","):
            yield "cpu", path


def _read_mounts(process: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the folder of each hierarchy, which group that is, and the controller."""
    text = (process / "mountinfo").read_text("utf-8", "replace")
    for line in text.splitlines():
        # proc_pid_mountinfo(5): the optional fields end at a hyphen.
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kinds) < 3:
            continue
        root, mount = _unescape(fields[3]), Path(_unescape(fields[4]))
        if kinds[0] == "cgroup2":
            yield mount, root, ""
        elif kinds[0] == "cgroup" and "cpu" in kinds[2].split(","):
            yield mount, root, "cpu"


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _climb(mount: Path, root: str, group: str) -> Iterator[Path]:
    """Yield the folder of a group, and those of the groups above it.

    A container without a namespace for groups sees its own group's path as the machine
    has it, and its own folder alone: the mount's root is taken off.
    """
    path = PurePosixPath(group)
    try:
        inner = path.relative_to(root)
    except ValueError:
        inner = PurePosixPath()
    # A process moved out of its namespace's root has "/../other".
    if ".." in inner.parts:
        inner = PurePosixPath()
    for part in (inner, *inner.parents):
        yield mount / part


def _read_quota(folder: Path, controller: str) -> Quota | None:
    """Return the quota of one group, None if it has none."""
    path = folder / ("cpu.cfs_quota_us" if controller else "cpu.max")
    try:
        words = path.read_text("ascii").split()
        if controller:
            words += (folder / "cpu.cfs_period_us").read_text("ascii").split()
        # "max 100000" and -1 stand for none.
        if words[0] == "max" or int(words[0]) <= 0:
            return None
        return Quota(int(words[0]) / int(words[1]), path)
    except (OSError, ValueError, ArithmeticError, IndexError):
        return None
