"""What happens to the machine around a server: containers, disks, clocks, names.

Each act runs the server within namespaces of Linux (unshare), so that nothing else is
touched.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from tests.faults.bench import Bench, ask, children_of, has_ended, wait_for
from tests.faults.site import BROKEN

CONTAINER = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")
"""Run a program as process 1, which the kernel spares what it does not handle."""

_MOUNT = (
    'mount -t tmpfs -o "$0" tmpfs full; head -c 100000 /dev/zero > full/rest; exec "$@"'
)


@cache
def has_namespaces() -> bool:
    """Return whether this user may make them: root may, if it is not a container's."""
    if shutil.which("unshare") is None:
        return False
    words = [*CONTAINER, "--mount", "--time", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def first_process(bench: Bench) -> int:
    """Return process 1, as the machine knows it."""
    return wait_for(lambda: children_of(bench.pid), "process 1")[0]


# Containers.


def ends_while_loading(options: tuple[str, ...], code: int, bench: Bench) -> None:
    bench.write(BROKEN["hang"])
    bench.launch(*options, prefix=CONTAINER)
    bench.exists("loading")
    bench.begin()
    bench.signal(signal.SIGTERM, first_process(bench))
    bench.ended(code)


def ends_at_once(options: tuple[str, ...], bench: Bench) -> None:
    """Stop process 1 twice while a request never ends."""
    bench.start(*options, prefix=CONTAINER)
    bench.ask_aside("/wait")
    bench.exists("begun")
    bench.begin()
    bench.signal(signal.SIGTERM, first_process(bench))
    bench.logged("Stopping")
    bench.signal(signal.SIGTERM, first_process(bench))
    bench.ended(0)


def leaves_orphans(options: tuple[str, ...], bench: Bench) -> None:
    """Let the application's children leave children behind, which process 1 adopts."""
    bench.start(*options, prefix=CONTAINER)
    first = first_process(bench)
    own = len(children_of(first))
    bench.begin()
    for _ in range(10):
        assert ask(bench.port, "/orphan") == "200", bench.log
    wait_for(lambda: len(children_of(first)) == own, "the orphans' end")
    bench.recovered()
    assert not any(map(has_ended, children_of(first)))
    bench.signal(signal.SIGTERM, first)
    bench.ended(0)


# Disks.


def full_disk(options: tuple[str, ...], code: int, sizes: str, bench: Bench) -> None:
    """Start with a full disk mounted at ``full``."""
    (bench.folder / "full").mkdir()
    bench.begin()
    prefix = ("unshare", "--mount", "sh", "-c", _MOUNT, sizes)
    bench.launch(*options, prefix=prefix)
    bench.ended(code)


# Clocks.


def has_just_begun(options: tuple[str, ...], bench: Bench) -> None:
    """Serve on a machine whose clock since its start begins at nought."""
    uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
    prefix = ("unshare", "--time", f"--monotonic=-{uptime}", "--fork", "--kill-child")
    bench.begin()
    bench.start(*options, prefix=prefix)
    for name in ("ValueError", "OSError"):
        assert ask(bench.port, f"/raise/{name}") == "500"
    bench.recovered()


# Names.

_RESOLVE = 'mount --bind resolv.conf /etc/resolv.conf; exec "$@"'


@contextmanager
def deaf_name_server(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Give what runs a program whose questions for names are not answered."""
    # An address for each row: they run at the same time, and the port is given.
    address = "127.9.{}.{}".format(*divmod(bench.port, 256))
    (bench.folder / "resolv.conf").write_text(
        f"nameserver {address}\noptions timeout:3 attempts:1\n"
    )
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as deaf:
        deaf.bind((address, 53))
        yield ("unshare", "--mount", "sh", "-c", _RESOLVE, "sh")


def name_is_not_found(options: tuple[str, ...], bench: Bench) -> None:
    """Start with an address whose name is asked for in vain."""
    with deaf_name_server(bench) as prefix:
        bench.begin()
        bench.launch(*options, prefix=prefix)
        bench.logged("Still looking up")
        bench.ended(1)


def name_of_a_receiver_is_not_found(options: tuple[str, ...], bench: Bench) -> None:
    with deaf_name_server(bench) as prefix:
        bench.start(*options, prefix=prefix)
        bench.begin()
        bench.logged("No metrics reach StatsD")
        bench.recovered()
        bench.signal(signal.SIGTERM)
        bench.ended(0)
