from __future__ import annotations

from djserve.instrumentation.preparations import Preparations


def test_each_preparation_happens_once_and_only_when_it_is_wanted() -> None:
    preparations = Preparations()
    calls: list[str] = []

    def first() -> None:
        calls.append("first")

    preparations.add(first)
    preparations.add(first)
    preparations.add(lambda: calls.append("second"))
    assert calls == []

    preparations.run()
    preparations.run()
    assert calls == ["first", "second"]
