"""Who is served when there are too many connections."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from djserve.conf.schema import BoundsConfig, ServerConfig
from djserve.server.admission import Admission, Verdict, default_limit
from djserve.testing.transport import MemoryTransport
from tests.server.sites import GET, Site, on_loop
from tests.support.logs import own_messages
from tests.support.waiting import settle


class Guest:
    """A connection, as an admission sees it."""

    def __init__(self, idle_since: tuple[bool, float] | None = None) -> None:
        self.idle_since = idle_since
        self.has_given_way = False

    def give_way(self) -> bool:
        self.has_given_way = self.idle_since is not None
        return self.has_given_way


def admit(*guests: Guest, limit: int | None) -> Admission:
    connections: Any = set(guests)
    return Admission(connections, limit)


def test_limit_leaves_descriptors_for_other_things() -> None:
    assert default_limit(1000) == 868
    assert default_limit(1) == 1
    assert default_limit(None) is None


def test_connections_are_served_up_to_the_limit() -> None:
    assert admit(Guest(), limit=2).decide() is Verdict.SERVE
    assert admit(Guest(), Guest(), limit=2).decide() is Verdict.REFUSE
    assert admit(Guest(), Guest(), limit=None).decide() is Verdict.SERVE


def test_those_without_a_request_go_first_then_the_longest_idle() -> None:
    silent, old, recent = Guest((False, 9.0)), Guest((True, 1.0)), Guest((True, 5.0))
    admission = admit(recent, old, Guest(), silent, limit=4)

    assert admission.decide() is Verdict.SERVE
    assert (silent.has_given_way, old.has_given_way) == (True, False)
    # What is about to end counts no longer.
    assert admission.decide() is Verdict.SERVE
    assert not old.has_given_way


def test_flood_costs_one_look_at_all_connections() -> None:
    looks = 0

    class Counted(Guest):
        @property
        def idle_since(self) -> tuple[bool, float] | None:
            nonlocal looks
            looks += 1
            return None

        @idle_since.setter
        def idle_since(self, value: Any) -> None: ...

    admission = admit(Counted(), limit=1)
    for _ in range(5):
        admission.decide()
    assert looks == 1

    admission.tick()
    admission.decide()
    assert looks == 2
    assert admission.refused == 6


def test_few_wait_for_their_refusal_at_a_time() -> None:
    guests = [Guest() for _ in range(16)]
    connections: Any = set(guests)
    admission = Admission(connections, 16)
    refused: Any = Guest()
    for _ in range(9):
        assert admission.decide() is Verdict.REFUSE
        refused = Guest()
        connections.add(refused)
        admission.refuse(refused)
    assert admission.decide() is Verdict.DROP

    connections.discard(refused)
    admission.connection_lost(refused)
    assert admission.decide() is Verdict.REFUSE


def test_refusals_are_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    admission = admit(Guest(), limit=1)
    with caplog.at_level(logging.WARNING, "djserve"):
        admission.decide()
        admission.decide()

    assert len(own_messages(caplog)) == 1
    assert "CONNECTION_LIMIT" in own_messages(caplog)[0]


def open_site(limit: int) -> Site:
    return Site(ServerConfig(bounds=BoundsConfig(connection_limit=limit)))


@on_loop
async def test_connection_too_many_is_answered_with_503() -> None:
    site = open_site(1)
    site.go.clear()
    busy = await site.send(GET)
    refused = await site.send(GET)

    assert refused.data.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in refused.data
    assert b"\r\nconnection: close\r\n" in refused.data
    assert site.log.statuses == [503]
    site.go.set()
    await settle()
    assert busy.data.startswith(b"HTTP/1.1 200 ")
    busy.lose()
    refused.lose()

    assert (await site.send(GET)).data.startswith(b"HTTP/1.1 200 ")


@on_loop
async def test_idle_connection_makes_room_for_a_new_one() -> None:
    site = open_site(1)
    idle = await site.send(GET)
    for connection in site.factory.connections:
        connection.tick(5.0)
    new = await site.send(GET)

    assert idle.is_eof_written
    assert new.data.startswith(b"HTTP/1.1 200 ")


@on_loop
async def test_connections_beyond_those_refused_are_dropped() -> None:
    site = open_site(1)
    site.go.clear()
    transports: list[MemoryTransport] = [await site.send(GET)]
    transports += [site.connect() for _ in range(20)]

    assert sum(transport.is_aborted for transport in transports) == 12
    assert not transports[0].is_aborted
    site.go.set()
    await settle()
