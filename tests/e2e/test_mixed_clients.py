"""Clients that send the same bytes at the same time, each of which gets its own.

What a server keeps of a request, to spare itself work for the next one like it, must
not show anyone what is another's: neither to clients, nor to an application that
changes all that it is given.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.asyncio.client import connect

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = """
import json


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["shared"] = "by all"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    seen = describe(scope)
    vandalise(scope)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(seen)})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body")
    seen["body"] = body.decode()
    content = json.dumps(seen).encode()
    kind = (b"content-type", b"application/json")
    length = (b"content-length", b"%d" % len(content))
    cookie = [(b"set-cookie", message) for message in values(seen, "x-user")]
    start = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [kind, length, *cookie]})
    await send({"type": "http.response.body", "body": content})


def describe(scope):
    return {
        "client": scope["client"],
        "method": scope.get("method"),
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "headers": [[text.decode() for text in pair] for pair in scope["headers"]],
        "state": dict(scope["state"]),
        "extensions": {key: dict(value) for key, value in scope["extensions"].items()},
        "names": sorted(scope),
    }


def values(seen, wanted):
    return [value.encode() for name, value in seen["headers"] if name == wanted]


def vandalise(scope):
    secret = repr(scope["client"])
    for options in scope["extensions"].values():
        try:
            options["secret"] = secret
        except TypeError:
            pass
    scope["headers"].append((b"x-secret", secret.encode()))
    scope["headers"].reverse()
    scope["state"]["secret"] = secret
    scope["extensions"]["secret"] = {"of": secret}
    scope["asgi"]["secret"] = secret
    # Not the client: what an application makes of it, the access log is to have.
    scope.update(path="/secret", query_string=b"secret", server=("secret", 1))
    scope["secret"] = secret
"""

HOST = b"Host: site.example\r\n"
CONNECTIONS = 6
ROUNDS = 12


class Request(NamedTuple):
    """What is sent, and what the application is to see."""

    data: bytes
    method: str
    path: str
    query: str
    headers: list[list[str]]
    body: str


def build(
    method: str,
    target: str,
    fields: list[str],
    body: str = "",
    *,
    chunked: bool = False,
) -> Request:
    fields = ["Host: site.example", *fields]
    content = body.encode()
    if chunked:
        fields.append("Transfer-Encoding: chunked")
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    elif body:
        fields.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""])
    path, _, query = target.partition("?")
    headers = [[name.lower(), value] for name, value in (f.split(": ") for f in fields)]
    return Request(head.encode() + content, method, path, query, headers, body)


def choose(rng: random.Random, user: str) -> Request:
    """Return a request: mostly one that others send as well."""
    target = rng.choice(["/", "/", "/a", "/a?b=c", "/a?b=d"])
    agent = ["User-Agent: one"]
    return rng.choice(
        [
            *[build("GET", target, [])] * 4,
            *[build("GET", target, agent)] * 3,
            build("HEAD", target, []),
            build("HEAD", target, agent),
            build("POST", target, agent),
            build("POST", target, [], f"body of {user}"),
            build("POST", target, [], f"chunks of {user}", chunked=True),
            build("PUT", target, ["Expect: 100-continue"], f"expected of {user}"),
            build("GET", target, [f"X-User: {user}"]),
            build("GET", target, [f"Cookie: sessionid={user}", "User-Agent: one"]),
            build("GET", target, ["Connection: keep-alive"]),
            build("OPTIONS", target, []),
        ]
    )


@pytest.fixture
def server(
    start_server: Callable[..., Any], free_port: int, tmp_path: Path
) -> tuple[int, Path]:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    log = tmp_path / "access.log"
    start_server(
        *("-m", "djserve", "site_app:app", "-b", f"127.0.0.1:{free_port}"),
        *("--access-log", str(log)),
        port=free_port,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:."},
    )
    return free_port, log


async def converse(port: int, number: int, rng: random.Random) -> list[str]:
    """Be one client; return the lines that the access log is to have of it."""
    address = f"127.0.0.{number + 2}"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(address, 0)
    )
    own = list(writer.get_extra_info("sockname"))
    lines = []
    for _ in range(ROUNDS):
        requests = [choose(rng, f"user-{number}") for _ in range(rng.choice([1, 1, 4]))]
        data = b"".join(request.data for request in requests)
        cut = rng.randrange(len(data) + 1)
        writer.write(data[:cut])
        await asyncio.sleep(0)
        writer.write(data[cut:])
        for request in requests:
            lines.append(await check(reader, request, own))
    writer.close()
    return lines


async def check(
    reader: asyncio.StreamReader, request: Request, client: list[Any]
) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    found = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
    assert found is not None
    size = 0 if request.method == "HEAD" else int(found[1])
    content = await reader.readexactly(size)
    users = [value for name, value in request.headers if name == "x-user"]
    assert re.findall(rb"set-cookie: (.*?)\r\n", head) == [u.encode() for u in users]
    if size:
        check_seen(json.loads(content), request, client)
    fields = dict(request.headers)
    target = request.path + ("?" + request.query if request.query else "")
    return (
        f'{client[0]} "{request.method} {target} HTTP/1.1" 200 {found[1].decode()} '
        f'"{fields.get("user-agent", "-")}"'
    )


def check_seen(seen: dict[str, Any], request: Request, client: list[Any]) -> None:
    assert seen["client"] == client
    assert seen["headers"] == request.headers
    told = (seen["method"], seen["path"], seen["query"], seen["body"])
    assert told == (request.method, request.path, request.query, request.body)
    check_untouched(seen)


def check_untouched(seen: dict[str, Any]) -> None:
    """Nothing is there that another call has put in its scope."""
    assert seen["state"] == {"shared": "by all"}
    assert not any(seen["extensions"].values())
    assert "secret" not in [*seen["names"], *seen["extensions"], seen["query"]]


async def converse_by_http2(port: int, number: int, rng: random.Random) -> None:
    address = f"127.0.0.{number + 2}"
    transport = httpx.AsyncHTTPTransport(http1=False, http2=True, local_address=address)
    async with httpx.AsyncClient(transport=transport, timeout=120) as client:
        for _ in range(ROUNDS):
            user = f"user-{number}"
            requests = [
                client.request(
                    rng.choice(["GET", "GET", "POST"]),
                    f"http://127.0.0.1:{port}{rng.choice(['/', '/a?b=c'])}",
                    headers=rng.choice([{}, {}, {"x-user": user}]),
                )
                for _ in range(rng.choice([1, 4]))
            ]
            for response in await asyncio.gather(*requests):
                assert response.http_version == "HTTP/2"
                seen = response.json()
                asked = response.request
                assert seen["client"][0] == address
                assert seen["method"] == asked.method
                assert f"{seen['path']}?{seen['query']}".rstrip("?") == (
                    asked.url.raw_path.decode()
                )
                names = dict(seen["headers"])
                assert names.get("x-user") == asked.headers.get("x-user")
                assert response.headers.get("set-cookie") == names.get("x-user")
                assert "x-secret" not in names
                check_untouched(seen)


async def converse_by_websocket(port: int, number: int) -> None:
    for _ in range(3):
        async with connect(
            f"ws://127.0.0.1:{port}/a?b=c",
            local_addr=(f"127.0.0.{number + 2}", 0),
            open_timeout=120,
            proxy=None,
        ) as client:
            seen = json.loads(await client.recv())
            assert seen["client"] == list(client.local_address)
            assert (seen["path"], seen["query"]) == ("/a", "b=c")
            check_untouched(seen)


@pytest.mark.parametrize("seed", range(2))
def test_each_client_gets_its_own(server: tuple[int, Path], seed: int) -> None:
    port, log = server

    async def run() -> list[str]:
        async with asyncio.timeout(240), asyncio.TaskGroup() as group:
            tasks = [
                # Two connections from one address, so that the port alone differs.
                group.create_task(
                    converse(port, number // 2, random.Random(seed * 100 + number))
                )
                for number in range(CONNECTIONS)
            ]
            for number in range(2):
                rng = random.Random(seed * 100 + 50 + number)
                group.create_task(converse_by_http2(port, number, rng))
                group.create_task(converse_by_websocket(port, number))
        return [line for task in tasks for line in task.result()]

    expected = Counter(asyncio.run(run()))
    deadline = time.monotonic() + 120
    while (found := read_log(log)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


def read_log(log: Path) -> Counter[str]:
    """Count who asked for what, of the lines of HTTP/1.1."""
    pattern = re.compile(
        r'(\S+) - - \[[^]]*\] ("[^"]* HTTP/1.1" 200 \S+) "[^"]*" ("[^"]*")'
    )
    return Counter(map(" ".join, pattern.findall(log.read_text())))
