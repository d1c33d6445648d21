"""permessage-deflate (RFC 7692): the offers of a client and what is agreed on.

What the extension costs in memory is settled here: no context is kept from one message
to the next in either direction, and windows are small if the client lets us choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTENSION_NAME = "permessage-deflate"

# A window of 4 KiB instead of zlib's 32 KiB: a compressor takes 32 KiB, not 256 KiB.
PREFERRED_WINDOW_BITS = 12
MAXIMUM_WINDOW_BITS = 15

# RFC 7692 section 7.1.2: 8 to 15 bits. zlib cannot write a raw stream with 8.
_SERVER_WINDOWS = {str(bits): bits for bits in range(9, 16)}
_CLIENT_WINDOWS = {str(bits): bits for bits in range(8, 16)}

_PARAMETERS = frozenset(
    {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }
)


@dataclass(frozen=True, slots=True)
class ExtensionOffer:
    """One element of Sec-WebSocket-Extensions: a name and its parameters in order."""

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class DeflateAgreement:
    """What both sides agreed on; the context is never taken over."""

    server_window_bits: int
    client_window_bits: int
    header: bytes
    """The value of Sec-WebSocket-Extensions that says so."""


def negotiate_deflate(offers: Iterable[ExtensionOffer]) -> DeflateAgreement | None:
    """Accept the first offer of permessage-deflate that is valid and can be met.

    Offers are alternatives in order of preference (RFC 7692 section 5.1), so one that
    cannot be met is passed over and the next is tried.
    """
    for offer in offers:
        if offer.name == EXTENSION_NAME:
            agreement = _accept_offer(offer)
            if agreement is not None:
                return agreement
    return None


def _accept_offer(offer: ExtensionOffer) -> DeflateAgreement | None:
    # RFC 7692 section 7.1: decline unknown parameters, repeated ones, invalid values.
    parameters = dict(offer.parameters)
    if len(parameters) != len(offer.parameters) or not parameters.keys() <= _PARAMETERS:
        return None
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        if parameters.get(name) is not None:
            return None
    server_bits = _server_window(parameters)
    client_bits = _client_window(parameters)
    if server_bits is None or client_bits is None:
        return None
    header = (
        f"{EXTENSION_NAME}; server_no_context_takeover; client_no_context_takeover"
        f"; server_max_window_bits={server_bits}"
    )
    # RFC 7692 section 7.1.2.2: only a client that offered it can be told its window.
    if "client_max_window_bits" in parameters:
        header += f"; client_max_window_bits={client_bits}"
    return DeflateAgreement(server_bits, client_bits, header.encode())


def _server_window(parameters: dict[str, str | None]) -> int | None:
    if "server_max_window_bits" not in parameters:
        return PREFERRED_WINDOW_BITS
    bits = _SERVER_WINDOWS.get(parameters["server_max_window_bits"] or "")
    return min(bits, PREFERRED_WINDOW_BITS) if bits is not None else None


def _client_window(parameters: dict[str, str | None]) -> int | None:
    if "client_max_window_bits" not in parameters:
        return MAXIMUM_WINDOW_BITS
    value = parameters["client_max_window_bits"]
    if value is None:
        return PREFERRED_WINDOW_BITS
    bits = _CLIENT_WINDOWS.get(value)
    # Many clients' zlib writes 9 bits when told 8, so a promise of 8 is not believed.
    return min(bits, PREFERRED_WINDOW_BITS) if bits is not None and bits > 8 else None
