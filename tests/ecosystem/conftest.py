"""Leave the runs of real packages out, but where their environment is asked for."""

from __future__ import annotations

import os

# `make ecosystem` sets it, in the environment that has the packages.
if os.environ.get("DJSERVE_ECOSYSTEM") != "1":
    collect_ignore_glob = ["test_packages.py", "test_crowd.py", "test_clients.py"]
