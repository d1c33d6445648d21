"""``python -m djserve``: the same as the command ``djserve``."""

from __future__ import annotations

import sys

from djserve.cli import main

if __name__ == "__main__":
    sys.exit(main())
