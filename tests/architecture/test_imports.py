"""The import contracts of pyproject.toml, and what an import must not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own: import-linter's logging set-up turns off all other loggers.
CHECK_CONTRACTS = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports("pyproject.toml", no_cache=True, no_logo=True))
"""

IMPORT_EVERY_MODULE = """
import os, pkgutil, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "demo_project.settings"
import django
django.setup()
import djserve
for found in pkgutil.walk_packages(djserve.__path__, "djserve."):
    if found.name.endswith("__main__"):
        continue
    __import__(found.name)
    if "twisted.internet.reactor" in sys.modules:
        sys.exit(f"{found.name} installs a reactor")
"""

WITHOUT_CHANNELS = """
import pkgutil, sys

class Missing:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("channels", "daphne"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import django
import pytest

from django.conf import settings
settings.configure(INSTALLED_APPS=["djserve"], ROOT_URLCONF="none")
django.setup()
import djserve
for found in pkgutil.walk_packages(djserve.__path__, "djserve."):
    # The layer is for Channels alone.
    if not found.name.endswith("__main__") and ".channels" not in found.name:
        __import__(found.name)

from djserve.handlers import get_asgi_application, parallel_consumers
parallel_consumers(get_asgi_application())
"""

IMPORT_THE_PACKAGE = """
import sys
before = set(sys.modules)
import djserve
print(" ".join(sorted(set(sys.modules) - before)))
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_import_contracts_are_kept() -> None:
    result = run_python(CHECK_CONTRACTS)

    assert result.returncode == 0, result.stdout + result.stderr


def test_no_module_installs_a_reactor_when_imported() -> None:
    result = run_python(IMPORT_EVERY_MODULE)

    assert result.returncode == 0, result.stderr


def test_channels_is_not_needed() -> None:
    result = run_python(WITHOUT_CHANNELS)

    assert result.returncode == 0, result.stderr


def test_importing_the_package_loads_no_framework() -> None:
    result = run_python(IMPORT_THE_PACKAGE)

    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "djserve" in loaded
    assert not loaded & {"asyncio", "autobahn", "django", "twisted", "uvloop"}
