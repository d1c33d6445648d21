"""Which responses are compressed, and how (RFC 9110 8.4, 12.5.3).

Pure functions of what the request and the response say.
"""

# What decides whether a response is compressed
#
# 1. The client (``choose``, once for a request): Accept-Encoding by weight, and of
#    equal weights the first in COMPRESSION_CODINGS. A client that prefers
#    "identity" gets it. HEAD has no content to compress.
# 2. Who asks. BREACH recovers a secret of a page, such as a token against forgery, from
#    the length of compressed responses that also contain what the attacker chose. It
#    needs a page of the attacker's that has the victim's browser send many requests
#    with the victim's cookies. Browsers mark these by Sec-Fetch-Site; with credentials
#    in them, they are answered without compression.
# 3. The response (``plan``): statuses without content, parts of a content (206),
#    content that is coded already, and fields that speak of the exact bytes (digests)
#    are left alone, and so is "no-transform" (RFC 9110 section 7.7). So are types that
#    are not listed: images and archives do not become smaller.
# 4. The length. Below COMPRESSION_MINIMUM_SIZE the coding's own bytes and the time are
#    worth more than what is saved. A response without a known length is compressed, as
#    its length is not known to be small.
#
# What changes with it. Vary names Accept-Encoding in both forms, compressed or not, or
# a cache would give the one to clients that take only the other. A strong ETag becomes
# weak, for the bytes are others; If-None-Match compares weakly (section 13.1.2), so a
# page is still found unchanged. Content-Length and Accept-Ranges go: both speak of
# bytes that are not sent.
#
# Everything that is unusual (a header that is not bytes, two lengths) is left to the
# stream, which refuses it in the same way with and without compression.

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from djserve.files.answers import FIELD_LIMIT, parse_codings
from djserve.protocols.headers import split_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from djserve.interfaces import Headers, RequestHead
    from djserve.responses.codecs import Encoder

ACCEPT_ENCODING = b"accept-encoding"

_EXCLUDING = frozenset(
    {
        # Compressed already, or a part of what is.
        b"content-encoding",
        b"content-range",
        # Of the bytes that are sent (RFC 9530).
        b"content-digest",
        b"content-md5",
        b"digest",
    }
)

_CREDENTIALS = frozenset({b"authorization", b"cookie"})

_EXAMINED = frozenset(
    {
        *_EXCLUDING,
        b"accept-ranges",
        b"cache-control",
        b"content-length",
        b"content-type",
        b"etag",
        b"vary",
    }
)

_STATUSES_LEFT_ALONE = frozenset({204, 205, 206, 304})


class Plan(NamedTuple):
    """What a response's content may become: ``length`` is None if it is not known.

    ``fields`` are those of the compressed response, ``plain`` those without.
    """

    fields: Headers
    plain: Headers
    length: int | None


class Negotiation:
    """The settings of compression, asked once for a request and once for a response."""

    def __init__(
        self,
        encoders: Mapping[bytes, Callable[[int | None], Encoder]],
        types: Sequence[str],
        minimum_size: int,
    ) -> None:
        self.encoders = encoders
        self._types = tuple(types)
        self._minimum_size = minimum_size
        self._choose = lru_cache(maxsize=256)(self._weigh)
        self._is_wanted = lru_cache(maxsize=256)(self._matches)

    def choose(self, head: RequestHead) -> bytes:
        """Return the coding that a client likes best, b"" for none.

        RFC 9110 9.3.2: HEAD has no content.
        """
        if head.method == "HEAD":
            return b""
        accepted, site, has_credentials = b"", b"", False
        for name, value in head.headers:
            if name == ACCEPT_ENCODING:
                accepted = accepted + b"," + value if accepted else value
            elif name == b"sec-fetch-site":
                site = value
            elif name in _CREDENTIALS:
                has_credentials = True
        # BREACH needs a page of the attacker's that makes a victim's browser ask for
        # many guesses, with the victim's cookies. Browsers tell such requests.
        if has_credentials and site in (b"cross-site", b"same-site"):
            return b""
        return self._choose(accepted[:FIELD_LIMIT]) if accepted else b""

    def plan(
        self, status: int, headers: Headers, whole: int | None, coding: bytes
    ) -> Plan | None:
        """Return what may become of a response; None if it stays as it is.

        ``whole`` is the content's length if all of it is at hand.
        """
        if status in _STATUSES_LEFT_ALONE:
            return None
        found = _find(headers)
        if found is None or b"content-type" not in found:
            return None
        if not self._is_wanted(found[b"content-type"]) or _EXCLUDING & found.keys():
            return None
        if _forbids_change(found):
            return None
        length = whole
        if b"content-length" in found:
            declared = found[b"content-length"]
            # What is wrong with it, the stream will say.
            if not declared.isdigit() or whole not in (None, int(declared)):
                return None
            length = int(declared)
        if length is not None and length < self._minimum_size:
            return None
        plain = _with_vary(headers, found.get(b"vary"))
        return Plan(_change(plain, coding), plain, length)

    def revise(self, headers: Headers, head: RequestHead) -> Headers:
        """Return the fields of a 206 or 304 as they are in its 200.

        RFC 9110 15.3.7 and 15.4.5. A cache replaces what it keeps by them: Vary without
        Accept-Encoding would let it send compressed content to any client, and a strong
        tag is not that of what was compressed (RFC 9111 4.3.4).
        """
        found = _find(headers)
        if found is None or not self._may_be_compressed(found):
            return headers
        etag = found.get(b"etag", b'"')
        if etag[:1] == b'"' and self._is_known_as_weak(etag, head):
            headers = [
                (name, b"W/" + value if name.lower() == b"etag" else value)
                for name, value in headers
            ]
        return _with_vary(headers, found.get(b"vary"))

    def _may_be_compressed(self, found: Mapping[bytes, bytes]) -> bool:
        """Return whether a response's 200 might be; a 304 has no Content-Type."""
        if b"content-encoding" in found or _forbids_change(found):
            return False
        content_type = found.get(b"content-type")
        return content_type is None or self._is_wanted(content_type)

    @staticmethod
    def _is_known_as_weak(etag: bytes, head: RequestHead) -> bool:
        """Return whether a client has the compressed response to a strong tag."""
        return any(
            name == b"if-none-match" and b"W/" + etag in value
            for name, value in head.headers
        )

    def _weigh(self, accepted: bytes) -> bytes:
        weights = parse_codings(accepted)
        best, best_weight = b"", 0.0
        for coding in self.encoders:
            weight = weights.get(coding, weights.get(b"*", 0.0))
            # The first of equals, in the order of the setting.
            if weight > best_weight:
                best, best_weight = coding, weight
        return b"" if weights.get(b"identity", 0.0) > best_weight else best

    def _matches(self, content_type: bytes) -> bool:
        kind = content_type.partition(b";")[0].strip().lower().decode("latin-1")
        return any(fnmatchcase(kind, each) for each in self._types)


def _find(headers: Headers) -> dict[bytes, bytes] | None:
    """Return the fields that matter here; None for what the stream will refuse."""
    found: dict[bytes, bytes] = {}
    try:
        for name, value in headers:
            lowered = name.lower()
            if lowered in _EXAMINED:
                value = bytes(value)
                if lowered in found:
                    if lowered == b"content-length":
                        return None
                    value = found[lowered] + b", " + value
                found[lowered] = value
    except (TypeError, ValueError, AttributeError):
        return None
    return found


def _forbids_change(found: Mapping[bytes, bytes]) -> bool:
    return b"no-transform" in split_list(found.get(b"cache-control", b""))


def _with_vary(headers: Headers, vary: bytes | None) -> Headers:
    """Return the fields with a Vary that names Accept-Encoding (RFC 9110 12.5.5)."""
    if vary is None:
        return [*headers, (b"vary", b"Accept-Encoding")]
    listed = split_list(vary)
    if b"*" in listed or ACCEPT_ENCODING in listed:
        return list(headers)
    fields = [pair for pair in headers if pair[0].lower() != b"vary"]
    fields.append(
        (b"vary", vary + b", Accept-Encoding" if listed else b"Accept-Encoding")
    )
    return fields


def _change(headers: Headers, coding: bytes) -> Headers:
    """Return the fields of a response whose content gets a coding.

    Its bytes are not those that a strong tag stands for (RFC 9110 8.8.1), nor those
    that a range would count.
    """
    fields: Headers = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"etag" and not value.startswith(b"W/"):
            value = b"W/" + value
        if lowered not in (b"content-length", b"accept-ranges"):
            fields.append((name, value))
    fields.append((b"content-encoding", coding))
    return fields
