"""What an authority refuses: a nonce, and too many orders."""

from __future__ import annotations

from typing import Any

import pytest
from acme import client, messages

from djserve.acme.network import NONCE_TRIES, Network, read_retry_after

MONDAY = 1_700_000_000.0


def refusal(code: str) -> messages.Error:
    make: Any = messages.Error
    error: messages.Error = make(typ=f"urn:ietf:params:acme:error:{code}", detail="no")
    return error


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the library's own ``post`` raises or returns, one after the other."""
    answers: list[Any] = []

    def post(self: Network, *args: Any, **kwargs: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(client.ClientNetwork, "post", post)
    return answers


def test_refused_nonce_is_tried_again_at_once(answers: list[Any]) -> None:
    answers += [refusal("badNonce")] * (NONCE_TRIES - 1) + ["answer"]

    assert Network().post("url", None) == "answer"  # type: ignore[comparison-overlap]
    assert answers == []


def test_nonces_that_are_refused_for_ever_are_an_error(answers: list[Any]) -> None:
    answers += [refusal("badNonce")] * (NONCE_TRIES + 1)
    with pytest.raises(messages.Error, match="badNonce"):
        Network().post("url", None)

    assert len(answers) == 1


def test_other_refusals_are_not_repeated(answers: list[Any]) -> None:
    answers += [refusal("rateLimited"), "answer"]
    with pytest.raises(messages.Error, match="rateLimited"):
        Network().post("url", None)

    assert answers == ["answer"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 23:13:20 GMT", 3600.0),
        ("Tue, 14 Nov 2000 23:13:20 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
    ],
)
def test_wait_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, MONDAY) == seconds


@pytest.mark.parametrize(("status", "wait"), [(429, 90.0), (503, 90.0), (403, None)])
def test_wait_is_taken_from_refusals_for_a_limit(
    status: int, wait: float | None
) -> None:
    class Response:
        status_code = status
        headers = {"Retry-After": "90"}
        text = "{}"

    network = Network()
    for hook in network.session.hooks["response"]:
        hook(Response())  # type: ignore[arg-type]

    assert network.retry_after == wait
