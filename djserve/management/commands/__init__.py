"""Found by Django by their names: ``runserver`` and ``runasgi``."""

from __future__ import annotations
