"""The guard: a small process that ends what has outlived its supervisor.

The processes alongside the workers get SIGTERM from the kernel if the supervisor is
killed. Nothing would then end one that does not obey. The guard knows their process
groups; when its standard input ends it waits as long as each may take, then sends
SIGKILL. Run as a separate script, without the package, so it is small.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

POLL_INTERVAL = 0.1


class Guard:
    """The supervisor's side. The process is started with the first group."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: dict[int, float] = {}

    @property
    def pid(self) -> int | None:
        """The guard's process, None if there is none."""
        return None if self._process is None else self._process.pid

    def add(self, group: int, seconds: float) -> None:
        """Watch over a process group, which may take ``seconds`` to end."""
        self._groups[group] = seconds
        self.look()
        self._tell(f"{group} {seconds}\n")

    def remove(self, group: int) -> None:
        """Forget a group: its number may be another's from now on."""
        if self._groups.pop(group, None) is not None:
            self._tell(f"{group}\n")

    def look(self) -> None:
        """Start the process if there is none, or none any more."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._close_pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for group, seconds in self._groups.items():
            self._tell(f"{group} {seconds}\n")

    def close(self) -> None:
        """End the process; called once no group is left."""
        if self._process is not None:
            self._close_pipe()
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It has been ended; the next group starts another one.
            return

    def _close_pipe(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return


def main() -> None:
    """Collect groups until the supervisor ends, then end them too."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, float] = {}
    for line in sys.stdin:
        group, *seconds = line.split()
        if seconds:
            groups[int(group)] = float(seconds[0])
        else:
            groups.pop(int(group), None)
    now = time.monotonic()
    if not sys.platform.startswith("linux"):
        # Elsewhere the kernel has not told them.
        for group in groups:
            _signal(group, signal.SIGTERM)
    deadlines = {group: now + seconds for group, seconds in groups.items()}
    while deadlines:
        for group, deadline in list(deadlines.items()):
            if time.monotonic() >= deadline:
                _signal(group, signal.SIGKILL)
                del deadlines[group]
            elif not _signal(group, 0):
                del deadlines[group]
        time.sleep(POLL_INTERVAL)


def _signal(group: int, number: int) -> bool:
    """Signal a group; return whether it has any process."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main()
