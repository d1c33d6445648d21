"""A loss, an end, an upgrade and a drain in each order: nothing outlives its client.

A case is how far the client has come, what happens then, and whether the loop takes its
turns between. With DJSERVE_ORDERS=all every case is run, for half an
hour, else a few of each kind, and those that have once failed.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from itertools import permutations
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

IS_WHOLE = os.environ.get("DJSERVE_ORDERS") == "all"
CASES_OF_EACH = 12


class Case(NamedTuple):
    """``steps`` of the client's, None for the whole request, then ``before``, then
    ``events``, with so many turns of the loop after each."""

    steps: int | None
    before: tuple[str, ...]
    events: tuple[str, ...]
    turns: tuple[int, ...]


def build_cases(kind: Kind) -> Iterator[Case]:
    for steps, before, choices in _build_choices(kind):
        for events in permutations(choices):
            for turns in ((0,), (20,), (0, 20), (20, 0), (1,), (2,)):
                yield Case(steps, before, events, turns)


def _build_choices(
    kind: Kind,
) -> Iterator[tuple[int | None, tuple[str, ...], tuple[str, ...]]]:
    ends = ["reset", "finish", "cut", "write"]
    if kind.tls:
        ends.append("notify")
    for steps in range(count_steps(kind)):
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


def count_steps(kind: Kind) -> int:
    return 2 * bool(kind.opening) + 3 * kind.tls + (3 if kind.http2 else 2)


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
    cases = list(build_cases(KINDS[name]))
    run(KINDS[name], cases if IS_WHOLE else cases[:: len(cases) // CASES_OF_EACH])


def test_client_resets_what_is_ended_after_its_response(run: Run) -> None:
    # asyncio's write_eof raises then, and the application was never told.
    kind = KINDS["POST HTTP/1.1"]
    run(kind, [Case(None, (), ("write", "deny", "drain"), (0,))])


def test_end_of_tls_ends_an_endpoints_connection(run: Run) -> None:
    # Its producer was waited for, which had nothing more to say.
    kind = KINDS["POST HTTP/1.1 TLS endpoint"]
    run(kind, [Case(3, (), ("next", "notify", "drain"), (20,))])
