"""Run Django's own tests with djserve's handler in the place of Django's.

    python tests/django_suite/run.py [--keep FOLDER] [--stock] [--pool] [label ...]

Downloads the source of the installed Django release from the package index into a
temporary folder, runs the tests of the parts that an ASGI handler touches, and prints
Django's own report. ``--stock`` runs them with Django's handler, to compare. Django's
test cases call the application from a thread that waits for it, where all synchronous
code must run in that thread; ``--pool`` has requests use pooled threads all the same.
"""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

LABELS = (
    "asgi",
    "async",
    "file_uploads",
    "handlers",
    "httpwrappers",
    "middleware",
    "middleware_exceptions",
    "requests_tests",
    "servers",
    "signals",
)

POOL_VARIABLE = "DJSERVE_SUITE_POOL"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", nargs="*", metavar="label")
    parser.add_argument("--keep", type=Path, help="folder for the downloaded source")
    parser.add_argument("--stock", action="store_true", help="run Django's own handler")
    parser.add_argument("--pool", action="store_true", help="always use pooled threads")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        tests = fetch_source(folder) / "tests"
        command = [sys.executable]
        command += [] if options.stock else [str(Path(__file__).resolve())]
        command += ["runtests.py", "--parallel=1", "--verbosity=1"]
        command += options.labels or LABELS
        environ = {**os.environ, "PYTHONPATH": str(tests.parent)}
        environ.pop("DJANGO_SETTINGS_MODULE", None)
        if options.pool:
            environ[POOL_VARIABLE] = "1"
        return subprocess.call(command, cwd=tests, env=environ)


def fetch_source(folder: Path) -> Path:
    """Return the unpacked source of the installed release, fetched if need be."""
    import django

    source = folder / f"django-{django.__version__}"
    if not source.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        requirement = f"django=={django.__version__}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--no-binary", ":all:", "--dest", str(folder), requirement]
        subprocess.check_call(pip)
        with tarfile.open(folder / f"{source.name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return source


def run_patched() -> None:
    """Put djserve's handler into Django's modules, then run Django's runtests.py."""
    import django.core.asgi
    import django.core.handlers.asgi

    from djserve.handlers import handler

    if os.environ.get(POOL_VARIABLE):
        vars(handler)["inherits_threads"] = lambda: False
    for module in (django.core.asgi, django.core.handlers.asgi):
        vars(module)["ASGIHandler"] = handler.ASGIHandler
    del sys.argv[0]
    sys.path.insert(0, os.getcwd())
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "runtests.py":
        run_patched()
    else:
        sys.exit(main())
