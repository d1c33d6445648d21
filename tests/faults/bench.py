"""A server under steady requests: what is done to it, and what clients see."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import find_free_port
from tests.faults.site import SOURCE

GUARD = 120.0
"""Seconds after which what is waited for is taken never to come."""

SEEN_OFTEN = 10
"""Answers in a row after which a server has recovered."""


T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str = "it") -> T:
    """Return the first true value of a condition; fail where there is none."""
    deadline = time.monotonic() + GUARD
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return list(map(int, text.split()))


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def ask(port: int, path: str = "/", body: bytes = b"") -> str:
    """Return what a client gets: a status, or how the connection ended."""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: a\r\n"
    head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    data = b""
    try:
        with socket.create_connection(("127.0.0.1", port), GUARD) as sock:
            sock.sendall(head.encode() + body)
            while chunk := sock.recv(65536):
                data += chunk
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"
    except OSError:
        pass
    if not data.startswith(b"HTTP/1.1 "):
        return "reset"
    return data[9:12].decode()


def head_of(port: int) -> list[str]:
    """Return the lines of a response's head, in small letters."""
    with socket.create_connection(("127.0.0.1", port), GUARD) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as file:
            head = file.read().partition(b"\r\n\r\n")[0]
    return head.decode().lower().splitlines()


class Bench:
    """One row's server, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.seen: Counter[str] = Counter()
        self.begun = 0.0
        self.worst = 0.0
        self._last_bad = 0.0
        self._answers = 0
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._extra: list[subprocess.Popen[bytes]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.write(SOURCE)

    # The server.

    def write(self, source: str) -> None:
        """Write the application's file."""
        (self.folder / "app.py").write_text(source)

    def launch(
        self,
        *options: str,
        stdout: Any = None,
        stderr: Any = None,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Start the server, by a program that runs it, without waiting for it."""
        words = [*prefix, sys.executable, "-m", "djserve", "app:application"]
        words += ["--bind", f"127.0.0.1:{self.port}", *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log if stderr is None else stderr,
            )

    def start(self, *options: str, tls: bool = False, **more: Any) -> None:
        """Start the server, and the clients once it serves."""
        self.launch(*options, **more)
        if "stderr" not in more:
            self.logged("Listening on")
        wait_for(lambda: tls or ask(self.port) == "200", "an answer")
        for _ in range(0 if tls else 3):
            thread = threading.Thread(target=self._probe, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def loader(self) -> int:
        """The newest loader's process."""
        return wait_for(lambda: children_of(self.pid), "a loader")[-1]

    @property
    def workers(self) -> list[int]:
        """The workers that the loader has forked."""
        return wait_for(lambda: children_of(children_of(self.pid)[0]), "workers")

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, number: int, pid: int | None = None) -> None:
        os.kill(self.pid if pid is None else pid, number)

    def exists(self, name: str) -> None:
        """Wait for a file that the application makes."""
        wait_for((self.folder / name).exists, name)

    def ask_aside(self, path: str) -> None:
        """Send a request whose answer is not waited for."""
        thread = threading.Thread(target=ask, args=(self.port, path), daemon=True)
        thread.start()

    # What is measured.

    def begin(self) -> None:
        """Note that the fault happens now."""
        self.seen.clear()
        self.begun = time.monotonic()
        self._last_bad = 0.0

    def logged(self, pattern: str) -> None:
        """Wait for a line of the log."""

        def is_there() -> bool:
            assert self.process is not None
            has_ended = self.process.poll() is not None
            is_found = re.search(pattern, self.log) is not None
            assert is_found or not has_ended, self.log
            return is_found

        wait_for(is_there, pattern)

    def recovered(self) -> None:
        """Wait until all is well again, for clients and the next ones."""
        self._answers = 0
        wait_for(lambda: self._answers >= SEEN_OFTEN, "answers")

    def ended(self, *codes: int) -> None:
        """Wait for the end of all processes, the server's with one of some codes."""
        assert self.process is not None
        known = [self.pid, *children_of(self.pid)]
        known += [pid for parent in known[1:] for pid in children_of(parent)]
        code = self.process.wait(GUARD)
        assert code in codes, (code, self.log)
        for pid in known:
            wait_for(partial(has_ended, pid), f"the end of {pid}")
        self.worst = time.monotonic() - self.begun
        wait_for(lambda: ask(self.port) == "refused", "a refusal")
        self.seen["refused"] += 1

    @property
    def recovery(self) -> float:
        """Seconds from the fault to the end of its last effect on a client."""
        return self.worst or max(0.0, self._last_bad - self.begun)

    def close(self) -> None:
        """End the clients and the server."""
        self._is_over.set()
        for process in (self.process, *self._extra):
            if process is None:
                continue
            pids = [*children_of(process.pid)]
            pids += [pid for parent in pids for pid in children_of(parent)]
            if process.poll() is None:
                process.kill()
            process.wait(GUARD)
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for thread in self._threads:
            thread.join(GUARD)

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        """Start another program, for as long as the row takes."""
        with (self.folder / "other").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log)
        self._extra.append(process)
        return process

    def _probe(self) -> None:
        while not self._is_over.wait(0.03):
            outcome = ask(self.port)
            self.seen[outcome] += 1
            if outcome == "200":
                self._answers += 1
            else:
                self._answers = 0
                self._last_bad = time.monotonic()
