"""The Priority field (RFC 9218): how urgent a response is, and how it is shared."""

from __future__ import annotations

import re
from typing import NamedTuple


class Priority(NamedTuple):
    """``urgency`` is 0 (first) to 7; ``incremental`` responses are sent in turns."""

    urgency: int
    incremental: bool


DEFAULT_PRIORITY = Priority(3, False)
_PRIORITIES = [
    Priority(urgency, incremental)
    for urgency in range(8)
    for incremental in (False, True)
]

# A dictionary of structured fields (RFC 9651 section 3.2), as far as this field needs
# it: a key, perhaps a bare item, perhaps parameters, which mean nothing here.
_KEY = rb"[a-z*][a-z0-9_\-.*]*"
_BARE_ITEM = (
    rb"(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]|:[A-Za-z0-9+/=]*:"
    rb'|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
    rb"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*)"
)
_member = re.compile(
    rb"[ \t]*(%b)(?:=(%b))?((?: *; *%b(?:=%b)?)*)[ \t]*(,|$)"
    % (_KEY, _BARE_ITEM, _KEY, _BARE_ITEM)
)

# The field is a few bytes; what is longer is not worth a look.
_VALUE_LIMIT = 256


def parse_priority(value: bytes) -> Priority:
    """Return what a Priority field says; defaults stand for what it does not.

    RFC 9218 section 4: unknown members and values out of range are ignored, and a field
    that does not parse is as good as none.
    """
    urgency, incremental = DEFAULT_PRIORITY
    value = value.strip(b" ")
    if len(value) > _VALUE_LIMIT:
        return DEFAULT_PRIORITY
    position = 0
    while position < len(value):
        match = _member.match(value, position)
        if match is None:
            return DEFAULT_PRIORITY
        key, item = match[1], match[2]
        if key == b"u":
            urgency = int(item) if item and item in b"01234567" else 3
        elif key == b"i":
            incremental = item is None or item == b"?1"
        position = match.end()
        if match[4] and position == len(value):
            return DEFAULT_PRIORITY
    return _PRIORITIES[urgency * 2 + incremental]
