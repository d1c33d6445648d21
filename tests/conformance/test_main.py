"""The page of results, as a run of some of the suites leaves it."""

from __future__ import annotations

from tests.conformance.__main__ import Result, update_table

OLD = """
| Suite | Cases | Passed |
| --- | --- | --- |
| HTTP/2 frames | 9 | 8 |
| Autobahn, all groups | 517 | 517 |

Not passed:

- HTTP/2 frames: one

Of Autobahn's, some are `OK`.

| Target | Inputs |
| --- | --- |
| `head` | 1 |
"""


def test_suites_that_were_not_run_keep_their_rows() -> None:
    results = [Result("HTTP/2 frames", 10, []), Result("h2spec", 2, ["two"])]

    assert (
        update_table(OLD, results)
        == """
| Suite | Cases | Passed |
| --- | --- | --- |
| HTTP/2 frames | 10 | 10 |
| Autobahn, all groups | 517 | 517 |
| h2spec | 2 | 1 |

Not passed:

- h2spec: two

Of Autobahn's, some are `OK`.

| Target | Inputs |
| --- | --- |
| `head` | 1 |
"""
    )
