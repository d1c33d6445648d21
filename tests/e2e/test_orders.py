"""A loss, an end, an upgrade and a drain in each order: nothing outlives its client.

A case is how far the client has come, what happens then, and whether the loop takes its
turns between. A few of each kind are run, and those that have once failed. With
DJSERVE_ORDERS=all all 200,000 are, which takes 25 minutes of processor time, and with
DJSERVE_ORDERS=3/20 the third twentieth of each kind's.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain, permutations
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
import twisted.internet

from djserve.instrumentation.logging import LateWrites
from djserve.net.main_loop import new_event_loop
from djserve.net.twisted.reactor import Reactor
from tests.e2e import upgrades
from tests.e2e.orders import (
    EVENTS,
    PROXY_V1,
    PROXY_V2,
    Bench,
    Kind,
    count_descriptors,
)
from tests.support.waiting import settle, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:X509:DeprecationWarning"),
]

Run = Callable[[Kind, list["Case"]], None]

ENDPOINT = "tcp:0:interface=127.0.0.1"
SSL_ENDPOINT = "ssl:0:privateKey={pem}:certKey={pem}:interface=127.0.0.1"
SNI_ENDPOINT = "tls:{folder}:0:interface=127.0.0.1"
# Those of the module upgrades, next to this one. Twisted's reading of PROXY headers
# takes no part of a second version's.
PEM_ENDPOINT = "{pem}:0"
HOW = {
    "HTTP/1.1": Kind(),
    "HTTP/1.1 detected": Kind(detects=True),
    "HTTP/2 detected": Kind(detects=True, http2=True),
    "HTTP/1.1 TLS": Kind(tls=True),
    "HTTP/2 TLS": Kind(tls=True, http2=True),
    "HTTP/1.1 PROXY": Kind(opening=PROXY_V1),
    "HTTP/2 PROXY": Kind(opening=PROXY_V2, detects=True, http2=True),
    "HTTP/1.1 PROXY TLS": Kind(opening=PROXY_V2, tls=True),
    "HTTP/2 PROXY TLS": Kind(opening=PROXY_V1, tls=True, http2=True),
    "HTTP/1.1 endpoint": Kind(ENDPOINT),
    "HTTP/1.1 TLS endpoint": Kind(SSL_ENDPOINT, tls=True),
    "HTTP/2 TLS endpoint": Kind(SSL_ENDPOINT, tls=True, http2=True),
    "HTTP/1.1 PROXY endpoint": Kind(f"haproxy:{ENDPOINT}", PROXY_V1),
    "HTTP/1.1 tls: endpoint": Kind(SNI_ENDPOINT, tls=True),
    "HTTP/2 tls: endpoint": Kind(SNI_ENDPOINT, tls=True, http2=True),
    "HTTP/1.1 PROXY in TLS endpoint": Kind(
        f"haproxy:{SSL_ENDPOINT}", PROXY_V1, is_opening_secret=True, tls=True
    ),
    "HTTP/1.1 PROXY in tls: endpoint": Kind(
        f"haproxy:{SNI_ENDPOINT}", PROXY_V1, is_opening_secret=True, tls=True
    ),
    "HTTP/2 PROXY in TLS endpoint": Kind(
        f"haproxy:{SSL_ENDPOINT}", PROXY_V1, True, tls=True, http2=True
    ),
    "HTTP/1.1 TLS after PROXY endpoint": Kind(
        f"behindproxy:{PEM_ENDPOINT}", PROXY_V1, tls=True
    ),
    "HTTP/2 TLS after PROXY endpoint": Kind(
        f"behindproxy:{PEM_ENDPOINT}", PROXY_V1, tls=True, http2=True
    ),
    "HTTP/1.1 STARTTLS endpoint": Kind(
        f"starttls:{PEM_ENDPOINT}", b"STARTTLS\r\n", tls=True
    ),
}
KINDS = {f"WebSocket {name}": kind for name, kind in HOW.items()}
KINDS |= {f"POST {name}": kind._replace(websocket=False) for name, kind in HOW.items()}

ORDERS = os.environ.get("DJSERVE_ORDERS", "")
CASES_OF_EACH = 12


class Case(NamedTuple):
    """``steps`` of the client's, None for the whole request, then ``before``, then
    ``events``, with so many turns of the loop after each."""

    steps: int | None
    before: tuple[str, ...]
    events: tuple[str, ...]
    turns: tuple[int, ...]

    @property
    def looks(self) -> tuple[object, ...]:
        """All that the server can see of it.

        What happens without a turn of the loop in between comes to it together: the
        client's bytes by its next look at the socket, the rest in its order.
        """
        found: list[object] = [self.steps, self.before]
        of_client: list[str] = []
        others: list[str] = []
        for number, event in enumerate(self.events):
            (of_client if EVENTS[event][0] == "client" else others).append(event)
            turns = self.turns[number % len(self.turns)]
            if turns or number == len(self.events) - 1:
                found += [tuple(of_client), tuple(others), turns]
                of_client, others = [], []
        return tuple(found)


def choose_cases(cases: list[Case], orders: str) -> list[Case]:
    """Return the cases that are wanted: "all", a part of them, or "" for a few."""
    if orders == "all":
        return cases
    if orders:
        number, _, count = orders.partition("/")
        return cases[int(number) - 1 :: int(count)]
    return cases[:: len(cases) // CASES_OF_EACH]


def build_cases(kind: Kind) -> Iterator[Case]:
    """Yield each case once, and none whose server cannot tell it from another."""
    seen = set()
    for steps, before, choices in _build_choices(kind):
        for events in permutations(choices):
            for turns in ((0,), (20,), (0, 20), (20, 0), (1,), (2,)):
                case = Case(steps, before, events, turns)
                looks = case.looks
                if looks not in seen:
                    seen.add(looks)
                    yield case


def _build_choices(
    kind: Kind,
) -> Iterator[tuple[int | None, tuple[str, ...], tuple[str, ...]]]:
    ends = ["reset", "finish", "cut", "write"]
    if kind.tls:
        ends.append("notify")
    # Until the head has begun, no byte tells a WebSocket from another request.
    for steps in range(
        0 if kind.websocket else count_steps_before(kind), count_steps(kind)
    ):
        for end in ends:
            yield steps, (), (end, "next", "drain")
    if kind.http2:
        ends += ["RST_STREAM", "END_STREAM", "GOAWAY"]
    for end in ends:
        for answer in ("accept", "deny", "return", "raise"):
            yield None, (), (end, answer, "drain")
        yield None, (), (end, "accept", "send", "drain")
    if kind.websocket:
        ends.append("close frame")
    for end in ends:
        for answer in ("send", "close", "return"):
            yield None, ("accept",), (end, answer, "drain")


def count_steps_before(kind: Kind) -> int:
    """Return how many steps there are before the request's own."""
    return 2 * bool(kind.opening) + 3 * kind.tls


def count_steps(kind: Kind) -> int:
    return count_steps_before(kind) + (3 if kind.http2 else 2)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


@pytest.fixture(params=["uvloop", "asyncio"])
def run(
    request: pytest.FixtureRequest,
    pem: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Run]:
    """Give ``run(kind, cases)``."""
    loop = new_event_loop(prefer_uvloop=request.param == "uvloop")
    # What a busy machine makes slow is no fault of what runs.
    loop.slow_callback_duration = 60
    reactor = Reactor(loop)
    # As a server's process has it: Twisted's own endpoints take the clock from there.
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", reactor)
    monkeypatch.setattr(twisted.internet, "reactor", reactor, raising=False)
    upgrades.install(tmp_path, monkeypatch)

    async def run_one(kind: Kind, case: Case) -> None:
        bench = Bench(reactor, kind, pem)
        await bench.open(case.steps)
        try:
            for event in case.before:
                bench.do(event)
                await settle()
            for number, event in enumerate(case.events):
                bench.do(event)
                await settle(case.turns[number % len(case.turns)])
        finally:
            await bench.end()

    async def run_all(kind: Kind, cases: list[Case]) -> None:
        # A loop opens some descriptors when they are first needed.
        await run_one(kind, Case(None, (), (), (0,)))
        descriptors = count_descriptors()
        for case in cases:
            try:
                await run_one(kind, case)
                await wait_until(lambda: count_descriptors() <= descriptors)
            except TimeoutError:
                pytest.fail(f"Something was left of {kind} after {case}")
            # A server drops what a loop says of writes to a connection just lost.
            loops = [
                one
                for one in caplog.records
                if one.name == "asyncio" and LateWrites().filter(one)
            ]
            assert not loops, f"{case} of {kind}"

    def run(kind: Kind, cases: list[Case]) -> None:
        loop.run_until_complete(run_all(kind, cases))

    caplog.set_level(logging.WARNING)
    yield run
    reactor.dispose()


@pytest.mark.parametrize("name", KINDS)
def test_nothing_outlives_its_client(run: Run, name: str) -> None:
    run(KINDS[name], choose_cases(list(build_cases(KINDS[name])), ORDERS))


def test_parts_are_all_of_the_cases() -> None:
    cases = list(build_cases(KINDS["POST HTTP/2 TLS"]))
    parts = [choose_cases(cases, f"{number}/7") for number in range(1, 8)]

    assert sorted(map(repr, chain(*parts))) == sorted(map(repr, cases))
    assert choose_cases(cases, "all") == cases
    assert CASES_OF_EACH <= len(choose_cases(cases, "")) < 2 * CASES_OF_EACH


def test_client_resets_what_is_ended_after_its_response(run: Run) -> None:
    # asyncio's write_eof raises then, and the application was never told.
    kind = KINDS["POST HTTP/1.1"]
    run(kind, [Case(None, (), ("write", "deny", "drain"), (0,))])


def test_end_of_tls_ends_an_endpoints_connection(run: Run) -> None:
    # Its producer was waited for, which had nothing more to say.
    kind = KINDS["POST HTTP/1.1 TLS endpoint"]
    run(kind, [Case(3, (), ("next", "notify", "drain"), (20,))])
