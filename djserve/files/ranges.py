"""Range requests (RFC 9110 14): which bytes of a representation are asked for."""

from __future__ import annotations

import re

# Whitespace where nginx takes it. 18 digits: no file is longer, and int() of thousands
# of digits raises ValueError.
_RANGE = re.compile(rb" *(?:(\d{1,18}) *- *(\d{1,18})?|-(\d{1,18})) *")


def choose_part(wanted: bytes, size: int) -> range | None:
    """Return the positions that a Range field asks for, of ``size`` bytes.

    Empty if no range can be satisfied or the field is malformed; None if the whole is
    to be sent: another unit than bytes, several parts, or no content to take parts of.
    """
    unit, _, ranges = wanted.partition(b"=")
    if unit.lower() != b"bytes" or not ranges or not size:
        return None
    parts = []
    for text in ranges.split(b","):
        match = _RANGE.fullmatch(text)
        if match is None:
            return range(0)
        part = _part_of(match, size)
        if part:
            parts.append(part)
    if not parts:
        return range(0)
    return parts[0] if len(parts) == 1 else None


def _part_of(match: re.Match[bytes], size: int) -> range:
    first, last, suffix = match.groups()
    if suffix is not None:
        return range(max(0, size - int(suffix)), size)
    return range(int(first), size if last is None else min(int(last) + 1, size))
