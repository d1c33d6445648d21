"""All that knows Twisted: its reactor, its transports and its endpoint strings."""

from __future__ import annotations
