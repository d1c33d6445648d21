"""The commands for ``manage.py``, and the development server that one of them runs."""

from __future__ import annotations
