"""How long, and for how many bytes, a peer that is no longer served is listened to.

A close while the peer still sends is answered by the system with a reset, and that may
destroy a response, or a GOAWAY, that the peer has yet to read (RFC 9112 section 9.6).
So every protocol first ends its own side and drops what still comes, within these.
"""

from __future__ import annotations

LINGER_TIMEOUT = 2.0
"""Seconds for a peer to read what we have sent last, and to end its own side."""

DISCARD_LIMIT = 256 * 1024
"""Bytes that are taken and dropped, so that a response to half an upload arrives."""
