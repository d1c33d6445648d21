"""HTTP/1.1 (RFC 9112) on llhttp."""

from __future__ import annotations
