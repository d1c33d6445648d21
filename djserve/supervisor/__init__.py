"""Many processes that serve one application: started, watched, replaced, stopped.

The supervisor runs no event loop and loads no application code unasked. It
starts a *loader*, a new interpreter with the same command line, which imports the
application and forks the workers; each reload has its own loader.
"""

from __future__ import annotations

from djserve.supervisor.program import Loaded, Program
from djserve.supervisor.roles import run

__all__ = ["Loaded", "Program", "run"]
