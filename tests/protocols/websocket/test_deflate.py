from __future__ import annotations

import pytest

from djserve.protocols.websocket.deflate import (
    DeflateAgreement,
    ExtensionOffer,
    negotiate_deflate,
)

BASE = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def offer(**parameters: str | None) -> ExtensionOffer:
    return ExtensionOffer("permessage-deflate", tuple(parameters.items()))


def test_plain_offer_leaves_the_client_its_window() -> None:
    assert negotiate_deflate([offer()]) == DeflateAgreement(
        12, 15, BASE + b"; server_max_window_bits=12"
    )


def test_browser_offer_gets_small_windows_both_ways() -> None:
    assert negotiate_deflate([offer(client_max_window_bits=None)]) == DeflateAgreement(
        12, 12, BASE + b"; server_max_window_bits=12; client_max_window_bits=12"
    )


@pytest.mark.parametrize(("asked", "agreed"), [("9", 9), ("12", 12), ("15", 12)])
def test_windows_are_no_larger_than_asked_for(asked: str, agreed: int) -> None:
    agreement = negotiate_deflate(
        [offer(server_max_window_bits=asked, client_max_window_bits=asked)]
    )

    assert agreement is not None
    assert agreement.server_window_bits == agreement.client_window_bits == agreed


@pytest.mark.parametrize(
    "bad",
    [
        offer(server_max_window_bits="8"),
        offer(server_max_window_bits="16"),
        offer(server_max_window_bits="012"),
        offer(server_max_window_bits=None),
        offer(client_max_window_bits="8"),
        offer(client_max_window_bits="x"),
        offer(server_no_context_takeover="1"),
        offer(client_no_context_takeover="true"),
        offer(unknown=None),
        ExtensionOffer(
            "permessage-deflate",
            (("client_max_window_bits", None), ("client_max_window_bits", "10")),
        ),
        ExtensionOffer("permessage-brotli"),
    ],
    ids=str,
)
def test_offer_that_cannot_be_met_is_declined(bad: ExtensionOffer) -> None:
    assert negotiate_deflate([bad]) is None


def test_next_offer_is_tried_after_one_that_is_declined() -> None:
    agreement = negotiate_deflate(
        [ExtensionOffer("x-unknown"), offer(server_max_window_bits="8"), offer()]
    )

    assert agreement is not None


def test_nothing_offered_is_nothing_agreed() -> None:
    assert negotiate_deflate([]) is None
