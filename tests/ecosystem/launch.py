"""Run a module as a program, with the package's agent begun before all else.

It does what the first lines of a project's ``manage.py`` do with an agent.
"""

from __future__ import annotations

import os
import runpy
import sys

from tests.ecosystem.table import PROJECTS

PROJECTS[os.environ["ECOSYSTEM_PACKAGE"]].begin()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
