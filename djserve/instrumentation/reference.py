"""The pages of metrics and loggers, docs/reference/metrics.md and logs.md.

``python -m djserve.instrumentation.reference`` prints them, ``--write`` puts them into
their files, and ``--check`` fails if a file says something else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from djserve.instrumentation.board import Board, request_index
from djserve.instrumentation.figures import read_figures
from djserve.instrumentation.limits import LIMITS
from djserve.instrumentation.metrics import render

FOLDER = Path("docs/reference")

LOGGERS = {
    "djserve": "Start, stop, workers, reloads, and what concerns the whole server.",
    "djserve.access": "The access log, if a handler of yours takes it.",
    "djserve.acme": "Orders of certificates, and why one has failed.",
    "djserve.development": "A line for each request, under `runserver`.",
    "djserve.error": "Exceptions of the application with their tracebacks, what breaks "
    "ASGI, failures of the lifespan and of the access log's file.",
    "djserve.handlers": "Threads, database connections and middleware of Django's "
    "handler.",
    "djserve.metrics": "Metrics that do not reach StatsD or a collector.",
    "djserve.net": "Certificates, TLS, PROXY headers, a shortage of descriptors.",
    "djserve.processes": "What the programs of `PROCESSES` print, line by line.",
    "djserve.server": "Addresses that are listened on, and what the start found.",
    "djserve.slow": "Requests that took `SLOW_REQUEST_TIME` or longer, once each.",
    "djserve.twisted": "What Twisted reports; unhandled errors in Deferreds above all.",
}
"""Each logger, and what it gets."""

_MADE = """\
<!-- Made by `python -m djserve.instrumentation.reference --write`; edit \
djserve/instrumentation instead. -->
"""

_METRICS = f"""\
# Metrics

{_MADE}
`METRICS_BIND` or `METRICS_PATH` turns them on, in Prometheus' text format; the \
package extra is `metrics`.
Counters are those of all workers since the start, whichever process is asked; \
gauges are those of the workers that live.
[Observability](../guides/observability.md) explains how to use them, and \
[stability](stability.md) what may change.

| Metric | Type | Labels | What it counts |
| --- | --- | --- | --- |
"""

_LOGGERS = f"""\
# Loggers

{_MADE}
Loggers of Python's `logging`. Levels follow `--verbosity` unless `LOGGING` sets them.
[Logging](../guides/logging.md) explains handlers, formats and the access log, and \
[stability](stability.md) what may change.

| Logger | What it says |
| --- | --- |
"""

_FAMILY = re.compile(r"^# HELP (\S+) (.+)\n# TYPE \1 (\w+)\n((?:(?!#).*\n)*)", re.M)
_SETTING = re.compile(r"\b([A-Z]+_[A-Z_]+)\b")
_LABELS = re.compile(r"^\w+\{([^}]*)\}", re.M)


def render_metrics() -> str:
    """Return the page of metrics, from what a busy server would answer."""
    board = Board()
    board.numbers[request_index("GET", 200, "1.1")] = 1
    board.set_views({"view": (1, 1)})
    board.set_limits(dict.fromkeys(LIMITS, 1))
    board.view_times.add("view", 0, 1)
    figures = read_figures([("1", board)], processes=[("name", 1, 0)])
    text = render(figures).decode()
    board.close()
    rows = []
    for name, told, kind, samples in _FAMILY.findall(text):
        found = _LABELS.search(samples)
        labels = re.findall(r'(\w+)="', found[1]) if found else []
        shown = ", ".join(f"`{label}`" for label in labels if label != "le")
        text = _SETTING.sub(r"`\1`", told)
        rows.append(f"| `{name}` | {kind} | {shown} | {text}. |\n")
    return _METRICS + "".join(rows)


def render_loggers() -> str:
    """Return the page of loggers."""
    rows = [f"| `{name}` | {text} |\n" for name, text in LOGGERS.items()]
    return _LOGGERS + "".join(rows)


PAGES = {"metrics.md": render_metrics, "logs.md": render_loggers}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m djserve.instrumentation.reference")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write the pages")
    action.add_argument("--check", action="store_true", help="compare the pages")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="their folder")
    options = parser.parse_args(arguments)
    wrong = 0
    for name, render_page in PAGES.items():
        path, text = options.folder / name, render_page()
        if options.write:
            path.write_text(text, "utf-8")
        elif not options.check:
            sys.stdout.write(text)
        elif not path.is_file() or path.read_text("utf-8") != text:
            wrong += 1
            print(f"{path} is out of date: --write it", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
