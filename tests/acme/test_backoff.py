from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from djserve.acme.backoff import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_WAIT, OrderBackoff
from djserve.conf.schema_https import ACMEConfig

CONFIG = ACMEConfig(acme_domains=("a.example.com", "B.example.com"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backoff.json"


def test_nothing_is_waited_for_at_first(path: Path) -> None:
    assert OrderBackoff(path, CONFIG).pause() == 0


def test_pauses_grow_to_a_bound(path: Path) -> None:
    backoff = OrderBackoff(path, CONFIG)
    pauses = [backoff.fail() for _ in range(30)]

    assert FIRST_PAUSE * 0.9 <= pauses[0] <= FIRST_PAUSE * 1.1
    assert pauses[0] < pauses[1] < pauses[2] < pauses[3]
    assert LONGEST_PAUSE * 0.9 <= pauses[-1] <= LONGEST_PAUSE * 1.1
    assert 0 < backoff.pause() <= pauses[-1]


def test_failures_are_known_after_a_restart(path: Path) -> None:
    pause = OrderBackoff(path, CONFIG).fail()
    names = ("b.example.com", "a.example.com")
    again = OrderBackoff(path, replace(CONFIG, acme_domains=names))

    assert pause - 60 < again.pause() <= pause
    assert again.fail() > FIRST_PAUSE * 1.5


@pytest.mark.parametrize(
    "change",
    [
        {"acme_domains": ("c.example.com",)},
        {"acme_challenge": "tls-alpn-01"},
        {"acme_email": "admin@example.com"},
    ],
    ids=["names", "challenge", "address"],
)
def test_another_order_is_tried_at_once(path: Path, change: dict[str, str]) -> None:
    OrderBackoff(path, CONFIG).fail()

    assert OrderBackoff(path, replace(CONFIG, **change)).pause() == 0  # type: ignore[arg-type]


def test_success_forgets_the_failures(path: Path) -> None:
    backoff = OrderBackoff(path, CONFIG)
    backoff.fail()
    backoff.succeed()

    assert not path.exists()
    assert backoff.pause() == OrderBackoff(path, CONFIG).pause() == 0
    assert backoff.fail() <= FIRST_PAUSE * 1.1


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (1.0, FIRST_PAUSE * 0.9, FIRST_PAUSE * 1.1),
        (86400.0, 86400.0, 86400.0),
        (1e12, LONGEST_WAIT, LONGEST_WAIT),
    ],
    ids=["less-than-ours", "a-day", "for-ever"],
)
def test_authority_may_ask_for_more_within_bounds(
    path: Path, asked: float, least: float, most: float
) -> None:
    assert least <= OrderBackoff(path, CONFIG).fail(asked) <= most


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'"x"', b"null", b"\xff\x00"]
)
def test_broken_file_is_no_failure(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert OrderBackoff(path, CONFIG).pause() == 0


@pytest.mark.parametrize("until", [1e300, "soon", None])
def test_time_of_a_wrong_clock_is_bounded(path: Path, until: object) -> None:
    OrderBackoff(path, CONFIG).fail()
    state = json.loads(path.read_bytes()) | {"until": until}
    path.write_text(json.dumps(state))

    assert OrderBackoff(path, CONFIG).pause() <= LONGEST_WAIT


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    backoff = OrderBackoff(tmp_path / "none" / "backoff.json", CONFIG)

    assert backoff.fail() > 0
    assert backoff.pause() > 0
