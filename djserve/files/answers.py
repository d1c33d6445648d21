"""What a request for a file is answered with: negotiation, conditions, ranges.

RFC 9110: content codings by 12.5.3, preconditions in the order of 13.2.2, ranges by 14.
Pure functions of the request's fields and of what is known about the file.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from djserve.postponed import pattern

if TYPE_CHECKING:
    from djserve.files.table import File, Headers, Representation

_REQUEST_FIELDS = frozenset(
    {
        b"accept-encoding",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    }
)

FIELD_LIMIT = 1024
"""Bytes of an Accept-Encoding field that count: what was parsed is kept."""

_NOT_ALLOWED: Headers = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
_FAILED: Headers = [(b"content-length", b"0")]

# Whitespace where nginx takes it. 18 digits: no file is longer, and int() of thousands
# of digits raises ValueError.
_RANGE = pattern(rb" *(?:(\d{1,18}) *- *(\d{1,18})?|-(\d{1,18})) *")


class Answer(NamedTuple):
    """A response's status and fields, and the part of a representation that it sends.

    ``part`` is empty if there is no content.
    """

    status: int
    fields: Headers
    representation: Representation | None = None
    part: range = range(0)


def answer(file: File, method: str, headers: Headers, query: bytes = b"") -> Answer:
    """Return the answer to a request for ``file``; a redirect keeps its query."""
    if method not in ("GET", "HEAD"):
        return Answer(405, _NOT_ALLOWED)
    if file.location:
        location = file.location + b"?" + query if query else file.location
        return Answer(301, [(b"location", location), (b"content-length", b"0")])
    asked = _find_fields(headers)
    chosen = file.representations[0]
    if len(file.representations) > 1:
        chosen = _negotiate(file, asked.get(b"accept-encoding", b""))
    if len(asked) > (b"accept-encoding" in asked):
        refused = _check_conditions(asked, chosen)
        if refused is not None:
            return refused
        # RFC 9110 14.2: a Range field with any method but GET is ignored.
        if method == "GET" and b"range" in asked and _is_range_current(asked, chosen):
            part = choose_part(asked[b"range"], chosen.size)
            if part is not None:
                return _answer_range(chosen, part)
    size = chosen.size if method == "GET" else 0
    return Answer(200, chosen.fields, chosen, range(size))


def _find_fields(headers: Headers) -> dict[bytes, bytes]:
    """Return the fields that matter here; those given twice as one list (5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _REQUEST_FIELDS:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def _answer_range(chosen: Representation, part: range) -> Answer:
    if not part:
        fields = [
            (b"content-range", b"bytes */%d" % chosen.size),
            (b"content-length", b"0"),
        ]
        return Answer(416, fields)
    fields = [pair for pair in chosen.fields if pair[0] != b"content-length"]
    fields += [
        (b"content-length", b"%d" % len(part)),
        (
            b"content-range",
            b"bytes %d-%d/%d" % (part.start, part.stop - 1, chosen.size),
        ),
    ]
    return Answer(206, fields, chosen, part)


def _check_conditions(
    asked: dict[bytes, bytes], chosen: Representation
) -> Answer | None:
    """Return the answer of a condition that is not met (RFC 9110 13.2.2)."""
    if b"if-match" in asked:
        if not _matches(asked[b"if-match"], chosen.etag, weakly=False):
            return Answer(412, _FAILED)
    elif _is_later(asked.get(b"if-unmodified-since"), chosen):
        return Answer(412, _FAILED)
    if b"if-none-match" in asked:
        if _matches(asked[b"if-none-match"], chosen.etag, weakly=True):
            return Answer(304, chosen.not_modified)
    elif _is_unmodified(asked.get(b"if-modified-since"), chosen):
        return Answer(304, chosen.not_modified)
    return None


def _matches(wanted: bytes, etag: bytes, *, weakly: bool) -> bool:
    """Return whether a list of entity tags has ``etag`` (RFC 9110 8.8.3.2).

    What made a weak tag of ours on the way (a proxy that compresses) changed no more
    than the coding, which is what a weak comparison allows.
    """
    if wanted.strip() == b"*":
        return True
    for tag in wanted.split(b","):
        tag = tag.strip()
        if tag == etag or (weakly and tag.removeprefix(b"W/") == etag):
            return True
    return False


def _is_unmodified(since: bytes | None, chosen: Representation) -> bool:
    if since is None:
        return False
    # What browsers send back is the field as it was.
    if since == chosen.last_modified:
        return True
    date = _parse_date(since)
    return date is not None and chosen.modified // 1_000_000_000 <= date


def _is_later(since: bytes | None, chosen: Representation) -> bool:
    if since is None or since == chosen.last_modified:
        return False
    date = _parse_date(since)
    return date is not None and chosen.modified // 1_000_000_000 > date


def _is_range_current(asked: dict[bytes, bytes], chosen: Representation) -> bool:
    """Return whether If-Range lets a part be sent (RFC 9110 13.1.5)."""
    condition = asked.get(b"if-range")
    if condition is None:
        return True
    return condition in (chosen.etag, chosen.last_modified)


def _parse_date(value: bytes) -> float | None:
    """Return an HTTP date (RFC 9110 5.6.7) in seconds since 1970; None for others."""
    # Only now: the email package is slow to import.
    from email.utils import parsedate_to_datetime

    try:
        date: datetime = parsedate_to_datetime(value.decode("latin-1"))
        return date.timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _negotiate(file: File, accepted: bytes) -> Representation:
    weights = parse_codings(accepted[:FIELD_LIMIT])
    best, best_weight = file.representations[0], 0.0
    for each in file.representations[1:]:
        weight = weights.get(each.encoding, weights.get(b"*", 0.0))
        # The first of equals: they are in the order of what they save.
        if weight > best_weight:
            best, best_weight = each, weight
    # RFC 9110 12.5.3: the plain file counts as named if nothing is said about it.
    if weights.get(b"identity", 0.0) > best_weight:
        return file.representations[0]
    return best


@lru_cache(maxsize=256)
def parse_codings(accepted: bytes) -> dict[bytes, float]:
    """Return the content codings of an Accept-Encoding field, with their weights.

    Browsers send the same few fields, so what was parsed is kept.
    """
    weights: dict[bytes, float] = {}
    for item in accepted[:FIELD_LIMIT].lower().split(b","):
        name, _, parameters = item.partition(b";")
        key, _, value = parameters.partition(b"=")
        weight = 1.0
        if key.strip() == b"q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
            if not 0 <= weight <= 1:
                weight = 0.0
        weights[name.strip()] = weight
    return weights


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
