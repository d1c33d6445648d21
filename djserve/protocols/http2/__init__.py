"""HTTP/2 (RFC 9113) on h2."""

from __future__ import annotations
