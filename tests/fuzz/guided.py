"""Fuzz a target guided by its coverage: ``python -m tests.fuzz.guided TARGET``.

Needs atheris (requirements/fuzz.txt); ``make fuzz`` installs it in its own environment.
A finding ends the run, and is kept in the folder together with the corpus; the same
command with the finding's path as ``--repeat`` runs it alone, without atheris.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

MODULE = "tests.fuzz.targets"
NAMES = (
    *("head", "grammar", "http1", "http2", "http3", "websocket", "forwarded", "proxy"),
    "records",
)

# Which modules' coverage guides a target, with all below them.
MODULES = {
    "http2": ["djserve.protocols", "h2", "hpack"],
    "forwarded": ["djserve.asgi.forwarded"],
    "proxy": ["djserve.net.proxy_protocol"],
    "records": ["djserve.net.tls_records"],
}
PROTOCOLS = ["djserve.protocols"]


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--size", type=int, default=4096, help="of the largest input")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"))
    parser.add_argument("--repeat", type=Path, help="run this input alone")
    return parser.parse_args(arguments)


def judge(run: Any, data: bytes) -> None:
    """Run a target. Raises AssertionError with what it has found."""
    faults = run(data)
    if faults:
        raise AssertionError("\n".join(map(str, faults[:5])))


def write_seeds(seeds: Any, folder: Path) -> None:
    """Put a target's seeds into its corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds():
        (folder / sha256(seed).hexdigest()[:16]).write_bytes(seed)


def fuzz(options: argparse.Namespace) -> None:
    """Hand over to atheris, which ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=MODULES.get(options.target, PROTOCOLS)):
        target = importlib.import_module(MODULE).TARGETS[options.target]
    folder = options.folder / options.target
    write_seeds(target.seeds, folder)
    words = [
        f"-max_total_time={options.seconds}",
        f"-max_len={options.size}",
        f"-artifact_prefix={options.folder}/{options.target}-",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *words, str(folder)], lambda data: judge(target.run, data)
    )
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    options = read_arguments(arguments)
    if options.repeat is None:
        fuzz(options)
        return
    target = importlib.import_module(MODULE).TARGETS[options.target]
    judge(target.run, options.repeat.read_bytes())
    print(f"{options.target}: nothing found")


if __name__ == "__main__":
    main(sys.argv[1:])
