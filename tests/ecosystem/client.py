"""The load of a run: requests of many users at a time, and their WebSockets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import websockets

from tests.ecosystem.users import AT_A_TIME, MESSAGES, SOCKETS, USERS, User

KINDS = [
    "sync",
    "async",
    "sync-raising",
    "async-raising",
    "sync-stream",
    "async-stream",
]
PATIENCE = 120


@dataclass(frozen=True)
class Call:
    """One request of a user, and what is known of its response."""

    user: User
    path: str
    status: int = 200
    method: str = "GET"
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    check: str = "shown"
    """``shown``: the response shows its user; ``name``: its body has the user's name;
    ``""``: the status says all."""


@dataclass(frozen=True)
class Answer:
    """The response to a call."""

    call: Call
    status: int
    headers: httpx.Headers
    body: str

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Return what the views of this project show of their surroundings."""
        if found := re.search(r"<pre>(.*?)</pre>", self.body):
            return [json.loads(found[1])]
        return [json.loads(line) for line in self.body.splitlines() if line]


@dataclass
class Run:
    """One server's run of one package."""

    server: str
    port: int
    place: Path
    answers: list[Answer] = field(default_factory=list)
    messages: list[tuple[User, dict[str, Any]]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    """What a local collector got: paths and contents."""
    log: str = ""
    seconds: float = 0
    """The processor time that the server used for the run."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, kind: str, right: str, seen: Any) -> None:
        """Record what the test itself has found, as ``records.record`` does."""
        self.records.append({"kind": kind, "right": right, "seen": seen})


def usual_calls() -> list[Call]:
    """Return a request of each user, to the six kinds of views in turn."""
    calls = []
    for user in USERS:
        kind = KINDS[user.number % len(KINDS)]
        raising = kind.endswith("raising")
        calls.append(
            Call(
                user,
                f"/{kind}/?who={user.name}",
                status=500 if raising else 200,
                check="" if raising else "shown",
            )
        )
    return calls


def open_client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=AT_A_TIME)
    # The environment's proxies are not for this machine's own servers.
    return httpx.AsyncClient(limits=limits, timeout=PATIENCE, trust_env=False)


async def request(client: httpx.AsyncClient, url: str, call: Call) -> Answer:
    response = await client.request(
        call.method,
        url + call.path,
        content=call.content,
        headers={**call.user.headers, **call.headers},
    )
    return Answer(call, response.status_code, response.headers, response.text)


async def send_all(run: Run, calls: Iterable[Call]) -> None:
    """Send the calls, so many at a time, and keep the answers."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async with open_client() as client:

        async def send(call: Call) -> None:
            async with gate:
                try:
                    answer = await request(client, run.url, call)
                except httpx.TransportError as error:
                    answer = Answer(call, 0, httpx.Headers(), repr(error))
                run.answers.append(answer)

        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(send(call))


async def open_socket(run: Run, user: User, path: str, **more: Any) -> Any:
    return await websockets.connect(
        f"ws://127.0.0.1:{run.port}{path}",
        additional_headers=user.headers,
        origin=websockets.Origin(run.url),
        open_timeout=PATIENCE,
        proxy=None,
        **more,
    )


async def converse(run: Run, user: User) -> None:
    """Send the messages of one user's socket, and keep what comes back."""
    kind = "sync" if user.number % 2 else "async"
    socket = await open_socket(run, user, f"/ws/{kind}/")
    for number in range(MESSAGES):
        await socket.send(json.dumps({"number": number}))
        run.messages.append((user, json.loads(await socket.recv())))
    await socket.close()


async def converse_all(run: Run) -> None:
    async with asyncio.TaskGroup() as group:
        for user in USERS[:SOCKETS]:
            group.create_task(converse(run, user))
