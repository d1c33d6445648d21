"""Which views are held back until there is a connection, and which are not."""

from __future__ import annotations

import pytest

from djserve.handlers.threads.needs import CERTAIN, Needs, Use


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    # All jobs end ten seconds after they have begun.
    monkeypatch.setattr("djserve.handlers.threads.needs.time.monotonic", lambda: 10.0)


def known(*views: str, limit: int = 4, share: float = 1.0, alias: str = "a") -> Needs:
    needs = Needs(share)
    for view in views:
        needs.learn(view, Use(alias, limit, 1.0, waited=2.0), 0.0)
    return needs


@pytest.mark.parametrize(
    ("use", "is_known"),
    [
        (None, False),
        # It has not had to wait: there is no shortage.
        (Use("a", 4, 1.0), False),
        (Use("a", 4, 1.0, waited=2.0), True),
        # Half of what is left of its time without the wait.
        (Use("a", 4, 4.0, waited=2.0), True),
        (Use("a", 4, 4.1, waited=2.0), False),
    ],
)
def test_view_is_known_by_an_early_query_that_had_to_wait(
    use: Use | None, is_known: bool
) -> None:
    needs = Needs()
    needs.learn("view", use, 0.0)

    assert ("view" in needs) == is_known
    assert bool(needs) == is_known


def test_calls_without_a_view_are_never_held_back() -> None:
    needs = Needs()
    needs.learn(None, Use("a", 1, 1.0, waited=2.0), 0.0)

    assert not needs
    assert needs.allow(None, {})


def test_as_many_begin_as_there_are_connections() -> None:
    needs = known("one", "two")

    assert needs.allow("one", {"one": 1, "two": 2, "plain": 9})
    assert not needs.allow("one", {"one": 2, "two": 2})
    assert needs.allow("plain", {"one": 2, "two": 2})


def test_one_view_leaves_connections_to_others() -> None:
    needs = known("one", "two", share=0.8)

    assert not needs.allow("one", {"one": 3})
    assert needs.allow("two", {"one": 3})


def test_databases_are_counted_apart() -> None:
    needs = known("one", limit=1)
    needs.learn("two", Use("b", 1, 1.0, waited=2.0), 0.0)

    assert needs.allow("two", {"one": 1})
    assert needs.alias_of("two") == "b"


def test_more_begin_while_threads_wait_for_what_has_not_begun() -> None:
    needs = known("one", limit=1)
    needs.spare = 1

    assert needs.allow("one", {"one": 1})
    assert not needs.allow("one", {"one": 2})


@pytest.mark.parametrize("use", [None, Use("a", 4, 9.0)])
def test_view_that_asks_no_more_or_late_is_forgotten(use: Use | None) -> None:
    needs = known("one")
    for _ in range(2 * CERTAIN):
        needs.learn("one", Use("a", 4, 1.0), 0.0)
    for _ in range(CERTAIN - 1):
        needs.learn("one", use, 0.0)
    assert "one" in needs

    needs.learn("one", use, 0.0)

    assert "one" not in needs


def test_limit_is_that_of_the_last_wait() -> None:
    needs = known("one", limit=1)
    needs.learn("one", Use("b", 2, 1.0, waited=2.0), 0.0)

    assert needs.allow("one", {"one": 1})
    assert needs.alias_of("one") == "b"
