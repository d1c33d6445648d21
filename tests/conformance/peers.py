"""Run the HTTP/1.1 corpus against other servers: ``python -m tests.conformance.peers``.

The argument is a folder with their programs (``python -m venv peers``, ``pip install
uvicorn httptools h11 daphne hypercorn granian gunicorn``, ``peers/bin``). Two numbers
are printed for each: the cases that come out as they are written down, and those where
any other refusal is let pass, since a status between 400 and 599 is often a choice.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.conformance.client import exchange
from tests.conformance.corpus import CASES, Case
from tests.conftest import find_free_port, server_starter

APPLICATION = "tests.conformance.application:application"
LISTEN = ("--host", "127.0.0.1", "--port", "{port}")
PATIENCE = 10.0
BIND = ("--bind", "127.0.0.1:{port}")

# A server's name, its program and its options.
PEERS = (
    ("Uvicorn, httptools", "uvicorn", (*LISTEN, "--http", "httptools")),
    ("Uvicorn, h11", "uvicorn", (*LISTEN, "--http", "h11")),
    ("Daphne", "daphne", ("-b", "127.0.0.1", "-p", "{port}")),
    ("Hypercorn", "hypercorn", BIND),
    ("Granian", "granian", ("--interface", "asginl", *LISTEN)),
    ("gunicorn, ASGI worker", "gunicorn", ("-k", "asgi", *BIND)),
)


def judge(port: int, case: Case) -> tuple[bool, bool]:
    """Return whether a case passes exactly, and with any refusal for another."""
    try:
        statuses, content = exchange(port, [case.sent], PATIENCE)
    except (ValueError, TimeoutError):
        # A response that cannot be read, such as one without a head, or none.
        return False, False
    expected = [*case.statuses, *([200] if case.is_kept else [])]
    if case.is_kept is not (b"GET /end?" in content):
        return False, False
    return statuses == expected, _soften(statuses) == _soften(expected)


def _soften(statuses: list[int]) -> list[int]:
    return [min(status, 400) for status in statuses]


def run_peer(folder: Path, program: str, options: tuple[str, ...]) -> tuple[int, int]:
    """Start a server and return how many cases it passes, by each measure."""
    port = find_free_port()
    words = [option.format(port=port) for option in options]
    with (
        tempfile.TemporaryDirectory() as logs,
        server_starter(Path(logs)) as start,
    ):
        start(APPLICATION, *words, port=port, python=str(folder / program))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(partial(judge, port), CASES))
    return sum(exact for exact, _ in found), sum(loose for _, loose in found)


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    print(f"{len(CASES)} cases: exactly, with any refusal")
    for name, program, options in PEERS:
        exact, loose = run_peer(folder, program, options)
        print(f"{name}: {exact}, {loose}", flush=True)


if __name__ == "__main__":
    main()
