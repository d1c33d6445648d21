"""QUIC (RFC 9000), by aioquic: datagrams to streams, and back."""

from __future__ import annotations
