"""Run the conformance suites: ``python -m tests.conformance [--write]``.

The corpora run always; the chains where nginx and HAProxy are installed; Autobahn's and
h2spec where programs named ``wstest`` and ``h2spec`` are (``WSTEST``, ``H2SPEC`` name
others). ``--write`` puts the report into docs/reference/conformance.md. The exit code
is 1 if a case failed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.conformance import http2
from tests.conformance.client import converse, run_case
from tests.conformance.corpus import CASES
from tests.conftest import find_free_port, server_starter

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance.md"
MARK = "<!-- Results: python -m tests.conformance --write -->\n"
MIB = 1024 * 1024

# nginx answers HTTP/0.9 without a head, so that responses are not cut, only counted.
_find_status = re.compile(rb"HTTP/1\.[01] [2-5][0-9][0-9] ").findall

_find_rows = re.compile(r"^(?=\| (.+?) \| \d+ \| \d+ \|$)(.+\n)", re.M).findall
_rows_of_a_table = re.compile(r"\A(?:\|.*\n)*(?:\nNot passed:\n\n(?:- .*\n)*)?", re.M)

# Autobahn's large messages, and no limit on their frames.
OPTIONS = (
    f"--websocket-max-message-size={32 * MIB}",
    f"--websocket-max-frame-size={32 * MIB}",
)

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 60s
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server djserve 127.0.0.1:{upstream}
"""


class Result(NamedTuple):
    """What one suite found; ``failures`` are lines of text."""

    suite: str
    cases: int
    failures: list[str]


def run_corpus(port: int) -> Result:
    """Run the HTTP/1.1 corpus."""
    found = [(case, run_case(port, case)) for case in CASES]
    failures = [
        f"{case.section} {case.name}: {fault}" for case, fault in found if fault
    ]
    return Result("HTTP/1.1 corpus", len(CASES), failures)


def run_frames(port: int) -> Result:
    """Run the raw-frame cases of HTTP/2."""
    found = [(case, http2.run_case(port, case)) for case in http2.CASES]
    failures = [f"{case.name}: {fault}" for case, fault in found if fault]
    return Result("HTTP/2 frames", len(http2.CASES), failures)


def run_chain(name: str, command: list[str], text: str, upstream: int) -> Result | None:
    """Run the corpus through a proxy; None where it is not installed.

    What the proxy refuses or repairs is not judged. No request may come out of the
    content of another: there are at most as many answers as requests.
    """
    program = shutil.which(command[0])
    if program is None:
        return None
    port = find_free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "configuration")
        path.write_text(text.format(folder=folder, port=port, upstream=upstream))
        with server_starter(Path(folder)) as start:
            start(*command[1:], str(path), port=port, python=program)
            failures = []
            for case in CASES:
                count = len(_find_status(converse(port, [case.sent])))
                if count > len(case.statuses) + (case.sent != case.data):
                    failures.append(f"{case.section} {case.name}: {count} answers")
    return Result(f"HTTP/1.1 corpus behind {name}", len(CASES), failures)


def run_autobahn(port: int) -> Result | None:
    """Run Autobahn's test suite (package autobahntestsuite, for Python 2.7)."""
    command = find_command("WSTEST", "wstest")
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        specification = {
            "outdir": folder,
            "servers": [{"agent": "djserve", "url": f"ws://127.0.0.1:{port}"}],
            "cases": ["*"],
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        path = Path(folder, "specification.json")
        path.write_text(json.dumps(specification))
        subprocess.run(
            [*command, "-m", "fuzzingclient", "-s", str(path)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        cases = json.loads(Path(folder, "index.json").read_text())["djserve"]
    passed = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}
    failures = [
        f"{name}: {case['behavior']}, close {case['behaviorClose']}"
        for name, case in sorted(cases.items())
        if case["behavior"] not in passed or case["behaviorClose"] not in passed
    ]
    return Result("Autobahn", len(cases), failures)


def run_h2spec(port: int) -> Result | None:
    """Run h2spec, over cleartext with prior knowledge."""
    command = find_command("H2SPEC", "h2spec")
    if command is None:
        return None
    ran = subprocess.run(
        [*command, "-h", "127.0.0.1", "-p", str(port), "--timeout", "10"],
        capture_output=True,
        text=True,
    )
    lines = ran.stdout.splitlines()
    failures = [line.strip() for line in lines if line.lstrip().startswith("\u00d7")]
    count = next((line.split()[0] for line in lines if " tests, " in line), "0")
    return Result("h2spec", int(count), failures)


def find_command(variable: str, name: str) -> list[str] | None:
    """Return the words of a command that the environment or the path names."""
    given = os.environ.get(variable)
    if given:
        return shlex.split(given)
    path = shutil.which(name)
    return None if path is None else [path]


def run_all() -> Iterator[Result]:
    """Start a server and run every suite that can be run."""
    with tempfile.TemporaryDirectory() as folder, server_starter(Path(folder)) as start:
        port = find_free_port()
        words = ["-m", "djserve", "tests.conformance.application:application"]
        words += ["--bind", f"127.0.0.1:{port}", *OPTIONS]
        start(*words, port=port, env={"DJANGO_SETTINGS_MODULE": ""})
        suites: tuple[Callable[[int], Any], ...] = (
            run_corpus,
            run_frames,
            lambda port: run_chain("nginx", ["nginx", "-c"], NGINX, port),
            lambda port: run_chain("HAProxy", ["haproxy", "-db", "-f"], HAPROXY, port),
            run_autobahn,
            run_h2spec,
        )
        for suite in suites:
            result = suite(port)
            if result is not None:
                print(f"{result.suite}: {result.cases - len(result.failures)}", end=" ")
                print(f"of {result.cases}", *result.failures, sep="\n  ", flush=True)
                yield result


def write_page(results: list[Result]) -> None:
    """Put the results into the page in the docs; other suites keep theirs there."""
    before, _, old = PAGE.read_text().partition(MARK)
    PAGE.write_text(f"{before}{MARK}{update_table(old, results)}")


def update_table(old: str, results: list[Result]) -> str:
    """Return the text after the mark with the rows of ``results`` made anew."""
    rows = dict(_find_rows(old))
    for result in results:
        passed = result.cases - len(result.failures)
        rows[result.suite] = f"| {result.suite} | {result.cases} | {passed} |\n"
    text = "\n| Suite | Cases | Passed |\n| --- | --- | --- |\n" + "".join(
        rows.values()
    )
    failures = [f"{r.suite}: {line}" for r in results for line in r.failures]
    if failures:
        text += "\nNot passed:\n\n" + "".join(f"- {line}\n" for line in failures)
    _, _, rest = old.partition("| --- | --- | --- |\n")
    return text + _rows_of_a_table.sub("", rest)


def main() -> int:
    results = list(run_all())
    if "--write" in sys.argv[1:]:
        write_page(results)
    return 1 if any(result.failures for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
