"""What HTTP/2 and HTTP/3 have in common: streams, each of which carries a request."""

from __future__ import annotations
