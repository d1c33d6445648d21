"""Makes ``python -m djserve.doctor`` the doctor for a project without djserve."""

from __future__ import annotations

import sys

from djserve.doctor.command import main

if __name__ == "__main__":
    sys.exit(main())
