"""HTTP/3 (RFC 9114): frames on QUIC streams to exchanges, and back."""

from __future__ import annotations
