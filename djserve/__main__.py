"""``python -m djserve``, and the command ``djserve``: signals first, then all else."""

from __future__ import annotations

import sys

from djserve.collector import collect_seldom
from djserve.errors import ConfigError
from djserve.server.first_signals import hold


def main() -> int:
    """Run the command and return its exit code."""
    # The rest takes a large part of a second to import.
    hold()
    collect_seldom()
    try:
        from djserve.cli import main as run
    except KeyboardInterrupt:
        return 130
    except ConfigError as error:
        print(f"djserve: error: {error}", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
