"""What scopes say of extensions, which all of them share."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from djserve.protocols.extensions import Offer, offer


def set_item(found: dict[str, Any]) -> None:
    found["a"] = 1


def delete_item(found: dict[str, Any]) -> None:
    del found["a"]


def add(found: dict[str, Any]) -> None:
    found |= {"a": 1}


@pytest.mark.parametrize(
    "change",
    [
        set_item,
        delete_item,
        add,
        lambda found: found.clear(),
        lambda found: found.pop("a", None),
        lambda found: found.popitem(),
        lambda found: found.setdefault("a", 1),
        lambda found: found.update(a=1),
    ],
)
def test_offer_cannot_be_changed(change: Callable[[dict[str, Any]], object]) -> None:
    (found,) = offer("push").values()
    with pytest.raises(TypeError, match="cannot be changed"):
        change(found)

    assert found == {}


def test_offer_is_a_dictionary_to_those_who_copy_or_write_it_down() -> None:
    offers = offer("push", "trailers")

    assert list(offers) == ["http.response.push", "http.response.trailers"]
    assert copy.deepcopy(offers) == pickle.loads(pickle.dumps(offers)) == offers
    assert json.loads(json.dumps(offers)) == offers
    assert copy.copy(Offer()) == {} == Offer() | {}
