"""Sockets and the event loop: the only place for Twisted, uvloop and TLS."""

from __future__ import annotations
