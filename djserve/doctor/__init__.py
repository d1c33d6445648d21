"""Reads a project that another server serves, and says how djserve would serve it.

``python -m djserve.doctor`` and ``manage.py djserve doctor`` print it. Nothing is
changed, started or connected to.
"""

from __future__ import annotations
