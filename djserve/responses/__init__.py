"""What is made of an application's response before it is written, on any protocol.

A ``ResponseFilter`` stands between an exchange and its stream. ``private_files`` sends
the file that a response names, ``compression`` makes the content shorter.
"""

from __future__ import annotations

from djserve.responses.filters import describe_compression, open_filters

__all__ = ["describe_compression", "open_filters"]
