"""Bytes to requests and back: synchronous, with no socket, clock or event loop."""

from __future__ import annotations
