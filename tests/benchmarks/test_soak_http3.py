"""The HTTP/3 clients of the soak, against a real server."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("aioquic")

from benchmarks.endurance_load import Leaver
from benchmarks.soak_http3 import PROTOCOL, HTTP3Client, leave_http3_streams
from benchmarks.soak_load import Client, running
from benchmarks.soak_server import serve
from benchmarks.soak_tally import Tally
from tests.support.waiting import wait_until


@pytest.mark.e2e
def test_clients_are_answered_and_leave() -> None:
    tally = Tally()

    async def run() -> None:
        await server.wait_for("is ready")
        clients: list[Client] = [
            HTTP3Client(server.target, tally, 2, 0.0),
            Leaver(leave_http3_streams, server.target, tally, 0.0),
        ]
        async with running(clients):
            await wait_until(
                lambda: (
                    tally.requests[PROTOCOL] >= 5
                    and tally.events["leave http3 streams"] >= 2
                )
            )

    with serve(["--http3"], tls=True, workers=1) as server:
        asyncio.run(run())
        assert server.stop() == 0
        assert tally.failures == []
