"""The demo on two machines behind HAProxy: one is drained, no message is lost.

The machines are network namespaces with an address and a loopback of their own, and
share a Redis and the database. Where the system grants no namespaces, and where other
tests run at the same time, they are two addresses of this machine's loopback: a browser
drops all its connections when an interface comes or goes (ERR_NETWORK_CHANGED).
"""

from __future__ import annotations

import ipaddress
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from demo_project.chat.management.commands.demo_setup import PASSWORD
from tests.conftest import find_free_port
from tests.e2e.demo_site import PATIENT_SERVER, Prepared

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120.0
PORT, HEALTH_PORT = 8000, 9001
NAMES = ("ana", "ben", "chen", "dara")
# Below the rate limit of a person, however fast they are.
EACH = 6


@dataclass
class Machine:
    """Where a server runs: its address, and that of the proxy and Redis beside it."""

    name: str
    address: str
    neighbour: str
    prefix: list[str]
    process: subprocess.Popen[bytes] | None = None


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=DEADLINE)


@contextmanager
def namespace(name: str, number: int, key: int) -> Iterator[Machine]:
    """Make a machine that a cable connects with this one (RFC 2544's addresses)."""
    space, cable = f"djserve-{key}-{name}", f"dj{key}{name}"
    # A network of four addresses for each; other keys than this one's stay far away.
    network = ipaddress.ip_network("198.18.0.0/15")[key * 8 % 2**17 + number * 4]
    ours, theirs = network + 1, network + 2
    run("ip", "netns", "add", space)
    try:
        run(*f"ip link add {cable} type veth peer name eth0 netns {space}".split())
        run(*f"ip address add {ours}/30 dev {cable}".split())
        run(*f"ip link set {cable} up".split())
        run(*f"ip -n {space} address add {theirs}/30 dev eth0".split())
        run(*f"ip -n {space} link set eth0 up".split())
        run(*f"ip -n {space} link set lo up".split())
        yield Machine(name, str(theirs), str(ours), ["ip", "netns", "exec", space])
    finally:
        run("ip", "netns", "delete", space)


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    key = find_free_port()
    with ExitStack() as stack:
        try:
            if "PYTEST_XDIST_WORKER" in os.environ:
                raise OSError("a browser may run beside this")
            spaces = [namespace(name, n, key) for n, name in enumerate(("a", "b"))]
            found = [stack.enter_context(space) for space in spaces]
        except (OSError, subprocess.CalledProcessError):
            found = [
                Machine(name, f"127.{key // 256}.{key % 256}.{number}", "127.0.0.1", [])
                for name, number in (("a", 2), ("b", 3))
            ]
        yield found


def wait_for(
    condition: Callable[[], object], tell: Callable[[], object] = lambda: ""
) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain {tell()}"
        time.sleep(0.05)


@contextmanager
def running(
    words: list[str], log: Path, sign: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block, once ``sign`` is in its log."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: sign in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE)


@contextmanager
def serving(machine: Machine, env: dict[str, str], folder: Path) -> Iterator[None]:
    """Run the demo on a machine."""
    words = [*machine.prefix, sys.executable, "manage.py", "runasgi"]
    words += [f"{machine.address}:{PORT}", *PATIENT_SERVER]
    words += ["--workers=2", "--proxy-protocol", "--websocket-drain-time=0.5"]
    words += ["--trusted-proxies", machine.neighbour]
    words += [f"--metrics-bind={machine.address}:{HEALTH_PORT}"]
    log = folder / f"{machine.name}.log"
    with running(words, log, "Supervisor ", env) as machine.process:
        yield


def write_proxy_settings(front: int, machines: list[Machine], path: Path) -> None:
    """Adapt HAProxy's file, and let each response say which machine it is of."""
    text = (ROOT / "deploy" / "machines" / "haproxy.cfg").read_text()
    text = re.sub(r"\b8080\b", f"127.0.0.1:{front}", text).replace("bind :", "bind ")
    for number, machine in enumerate(machines):
        old = f"127.0.0.1:{8001 + number} port {9001 + number}"
        text = text.replace(old, f"{machine.address}:{PORT} port {HEALTH_PORT}")
    text = text.replace("server one", "server a").replace("server two", "server b")
    path.write_text(text + "    http-response set-header X-Machine %s\n")


@pytest.fixture
def front(
    machines: list[Machine],
    prepared: Prepared,
    require_program: Callable[..., str],
    tmp_path: Path,
) -> Iterator[int]:
    """The port of HAProxy, which has found both machines ready."""
    redis, port = find_free_port(), find_free_port()
    binds = ["--bind", *{"127.0.0.1", *(each.neighbour for each in machines)}]
    redis_words = [require_program("redis-server"), "--port", str(redis), "--save", ""]
    redis_words += ["--protected-mode", "no", "--dir", str(tmp_path), *binds]
    data = prepared.copy(tmp_path / "data")
    env = {"DEMO_DATA_DIR": str(data), "DEMO_INPROCESS_WORKER": "0"}
    write_proxy_settings(port, machines, tmp_path / "haproxy.cfg")
    proxy = [require_program("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with ExitStack() as stack:
        log = tmp_path / "redis.log"
        stack.enter_context(running(redis_words, log, "Ready to accept connections"))
        for machine in machines:
            url = f"redis://{machine.neighbour}:{redis}/0"
            served = serving(machine, {**env, "REDIS_URL": url}, tmp_path)
            stack.enter_context(served)
        stack.enter_context(running(proxy, tmp_path / "haproxy.log", ""))
        wait_for(lambda: machines_seen(port) == {"a", "b"})
        yield port


def machines_seen(port: int) -> set[str]:
    """Return which machines answer through the proxy."""
    try:
        answers = [
            httpx.get(f"http://127.0.0.1:{port}/accounts/login/", timeout=DEADLINE)
            for _ in range(6)
        ]
    except httpx.HTTPError:
        return set()
    return {answer.headers.get("X-Machine", "") for answer in answers}


class Person(threading.Thread):
    """Somebody in the lobby who comes back at 1012 and asks for what was missed.

    What was said is said again until it is accepted: with its nonce, it counts once.
    """

    def __init__(self, name: str, home: str, port: int) -> None:
        super().__init__(name=name)
        self._port = port
        self._home = home
        self._cookies = self._sign_in()
        self._unaccepted: dict[str, str] = {}
        self._to_say: queue.Queue[str] = queue.Queue()
        self._over = threading.Event()
        self.is_here = threading.Event()
        self.first_version: int | None = None
        self.heard: dict[int, str] = {}
        self.codes: list[int | None] = []
        self.homes: list[str] = []
        self.problems: list[Any] = []

    def say(self, text: str) -> None:
        self._to_say.put(text)

    def leave(self) -> None:
        self._over.set()
        self.join(DEADLINE)

    @property
    def has_said_all(self) -> bool:
        return not self._to_say.unfinished_tasks

    def tell(self) -> str:
        """Return where this person is and what it waits for, and in which call."""
        frame = sys._current_frames().get(self.ident or 0)
        state = (self.homes, self.codes, self.problems, self._unaccepted, self.heard)
        return f"{self.name} {state} {''.join(traceback.format_stack(frame)[-4:])}"

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with self._connect() as client:
                    self._converse(client)
            except websockets.exceptions.ConnectionClosed as error:
                self.codes.append(error.rcvd.code if error.rcvd else None)

    def _sign_in(self) -> str:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}", timeout=DEADLINE
        ) as client:
            client.get("/accounts/login/")
            token = client.cookies["csrftoken"]
            data = {"username": self.name, "password": PASSWORD}
            form = {**data, "csrfmiddlewaretoken": token}
            assert client.post("/accounts/login/", data=form).status_code == 302
            return "; ".join(f"{key}={value}" for key, value in client.cookies.items())

    @contextmanager
    def _connect(self) -> Iterator[ClientConnection]:
        """Connect through the proxy; the first time until the home is its choice."""
        with ExitStack() as stack:
            for _ in range(20):
                client = stack.enter_context(
                    connect(
                        f"ws://127.0.0.1:{self._port}/ws/rooms/lobby/",
                        origin=Origin(f"http://127.0.0.1:{self._port}"),
                        additional_headers={"Cookie": self._cookies},
                        open_timeout=DEADLINE,
                        ping_interval=None,
                    )
                )
                assert client.response is not None
                machine = client.response.headers["X-Machine"]
                if self.homes or machine == self._home:
                    break
            self.homes.append(machine)
            yield client

    def _converse(self, client: ClientConnection) -> None:
        for nonce, text in self._unaccepted.items():
            self._send(client, nonce, text)
        while not self._over.is_set():
            try:
                self._take(client, json.loads(client.recv(timeout=0.05)))
            except TimeoutError:
                pass
            while not self._to_say.empty():
                nonce = str(uuid.uuid4())
                self._unaccepted[nonce] = self._to_say.get()
                self._send(client, nonce, self._unaccepted[nonce])

    def _send(self, client: ClientConnection, nonce: str, text: str) -> None:
        command = {"type": "send", "nonce": nonce, "text": text, "attachments": []}
        client.send(json.dumps(command))

    def _take(self, client: ClientConnection, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "welcome" if self.first_version is None:
                self.first_version = frame["version"]
                self.is_here.set()
            case "welcome":
                last = max(self.heard, default=self.first_version)
                client.send(json.dumps({"type": "resume", "version": last}))
            case "message":
                self._hear(frame["message"])
            case "changes":
                for message in frame["messages"]:
                    self._hear(message)
            case "accepted" if self._unaccepted.pop(frame["nonce"], None):
                self._to_say.task_done()
            case "error":
                self.problems.append(frame)

    def _hear(self, message: dict[str, Any]) -> None:
        assert self.first_version is not None
        if message["version"] > self.first_version:
            self.heard[message["version"]] = message["html"]


@pytest.fixture
def people(front: int) -> Iterator[list[Person]]:
    """Four people, two on each machine."""
    found = [Person(name, "ab"[n % 2], front) for n, name in enumerate(NAMES)]
    for person in found:
        person.start()
        assert person.is_here.wait(DEADLINE)
    yield found
    for person in found:
        person.leave()


def test_no_message_is_lost_while_a_machine_is_drained(
    people: list[Person], machines: list[Machine]
) -> None:
    assert [person.homes for person in people] == [["a"], ["b"], ["a"], ["b"]]
    first = max(person.first_version or 0 for person in people)
    texts = set()
    for number in range(EACH):
        if number == EACH // 2:
            assert machines[0].process is not None
            machines[0].process.terminate()
        for person in people:
            text = f"Number {number} of {person.name}"
            texts.add(text)
            person.say(text)
            wait_for(lambda: person.has_said_all, person.tell)  # noqa: B023
    last = first + len(texts)
    wait_for(lambda: all(last in person.heard for person in people))

    for person in people:
        assert person.problems == []
        heard = {v: html for v, html in person.heard.items() if v > first}
        assert sorted(heard) == list(range(first + 1, last + 1))
        said = re.findall(r"Number \d of \w+", " ".join(heard.values()))
        assert sorted(said) == sorted(texts)
    assert [person.codes for person in people] == [[1012], [], [1012], []]
    assert [person.homes[-1] for person in people] == ["b"] * 4
    assert machines[0].process is not None
    assert machines[0].process.wait(DEADLINE) == 0
