"""Where plain http is sent, and which hosts are named in an answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from djserve.acme.folder import CertificateFolder
from djserve.asgi.origin import OriginPolicy
from djserve.asgi.types import Receive, Scope, Send
from djserve.conf.parser import parse
from djserve.conf.schema_https import ACMEConfig
from djserve.interfaces import RequestHead
from djserve.protocols.http1.connection import AT_ONCE_LIMIT
from djserve.server.redirect import Redirect, RedirectExchange, describe_redirect
from djserve.testing.live import LiveServer
from tests.conftest import find_free_port
from tests.support.turns import TurnCounts

HOSTS = ("example.com", ".example.org", "[::1]")


def answer(
    host: bytes | None,
    *,
    hosts: tuple[str, ...] | None = HOSTS,
    port: int | None = 443,
    path: bytes = b"/a",
    query: bytes = b"",
    method: str = "GET",
) -> tuple[int, bytes]:
    """Return the status and the Location, b"" without one."""
    headers = [] if host is None else [(b"host", host)]
    head = RequestHead(method, path, query, headers, "1.1")
    status, fields, _ = Redirect(hosts, port).answer(head)
    return status, dict(fields).get(b"location", b"")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"example.com", b"https://example.com/a"),
        (b"Example.COM:8080", b"https://example.com/a"),
        (b"example.com.", b"https://example.com/a"),
        (b"www.example.org", b"https://www.example.org/a"),
        (b"example.org", b"https://example.org/a"),
        (b"[::1]:80", b"https://[::1]/a"),
    ],
)
def test_allowed_hosts_are_redirected(host: bytes, expected: bytes) -> None:
    assert answer(host) == (301, expected)


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"evil.com",
        b"example.com.evil.com",
        b"evilexample.org",
        b"example.com@evil.com",
        b"evil.com#example.com",
        b"evil.com/example.com",
        b"example.com\\evil.com",
        b"example.com:",
        b"example.com:80:81",
        b"ex\xe4mple.com",
        b"example.com evil.com",
    ],
)
def test_other_hosts_are_refused(host: bytes | None) -> None:
    assert answer(host) == (400, b"")


def test_any_host_that_is_one_will_do_without_a_list() -> None:
    assert answer(b"a.test", hosts=None) == (301, b"https://a.test/a")
    assert answer(b"a.test", hosts=("*",)) == (301, b"https://a.test/a")
    assert answer(b"a/b", hosts=None) == (400, b"")


def test_no_host_is_allowed_by_an_empty_list() -> None:
    assert answer(b"a.test", hosts=()) == (400, b"")


@pytest.mark.parametrize(
    ("method", "status"),
    [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308), ("OPTIONS", 308)],
)
def test_other_methods_keep_their_content(method: str, status: int) -> None:
    assert answer(b"example.com", method=method)[0] == status


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        (b"/", b"", b"/"),
        (b"//evil.com/x", b"", b"//evil.com/x"),
        (b"/a%2Fb%0D%0A", b"x=1&y=%20?", b"/a%2Fb%0D%0A?x=1&y=%20?"),
        (b"/\xc3\xa4", b'<"', b"/%C3%A4?%3C%22"),
        (b"/\\evil.com", b"", b"/%5Cevil.com"),
    ],
)
def test_target_is_kept(path: bytes, query: bytes, target: bytes) -> None:
    _, location = answer(b"example.com", path=path, query=query)

    assert location == b"https://example.com" + target


@pytest.mark.parametrize("path", [b"*", b"example.com:443", b""])
def test_target_without_a_path_is_refused(path: bytes) -> None:
    assert answer(b"example.com", path=path, method="OPTIONS") == (400, b"")


def test_port_is_named_unless_it_is_the_usual_one() -> None:
    assert answer(b"example.com:80", port=8443)[1] == b"https://example.com:8443/a"
    assert answer(b"example.com:80", port=None)[1] == b"https://example.com/a"


def test_nothing_is_said_without_a_redirect() -> None:
    assert describe_redirect(parse({}).redirect) == []


@pytest.mark.parametrize("seconds", [0, 3600])
def test_hint_is_given_without_hsts(
    seconds: int, settings: object, tmp_path: Path
) -> None:
    settings.SECURE_HSTS_SECONDS = seconds  # type: ignore[attr-defined]
    config = parse({"CERTFILE": __file__, "REDIRECT_HTTP": ["127.0.0.1:80"]})
    first, *hints = describe_redirect(config.redirect)

    assert first == "Redirecting http on 127.0.0.1:80 to https"
    assert len(hints) == (not seconds)
    assert all("SECURE_HSTS_SECONDS" in hint for hint in hints)


def test_challenge_is_answered_whatever_the_host(tmp_path: Path) -> None:
    acme = ACMEConfig(acme_domains=("a.example.com",), acme_folder=str(tmp_path))
    folder = CertificateFolder(acme)
    folder.prepare()
    folder.save_challenge("token", "token.thumbprint")
    path = b"/.well-known/acme-challenge/"

    def answer(method: str, path: bytes, acme: ACMEConfig | None) -> tuple[int, bytes]:
        head = RequestHead(method, path, b"", [(b"host", b"b.example.com")], "1.1")
        status, _, content = Redirect((), 443, acme).answer(head)
        return status, content

    assert answer("GET", path + b"token", acme) == (200, b"token.thumbprint")
    assert answer("HEAD", path + b"token", acme) == (200, b"")
    assert answer("POST", path + b"token", acme) == (404, b"")
    assert answer("GET", path + b"other", acme) == (404, b"")
    assert answer("GET", path + b"../certificate.pem", acme) == (404, b"")
    assert answer("GET", path + b"token", None)[0] == 400


# On real sockets.


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("No request without TLS may come here")


class Plain:
    """A client of the plain address."""

    def __init__(self, https_port: int, port: int) -> None:
        self.https_port = https_port
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return the next answer: status, fields and content."""
        status = int(self._file.readline().split()[1])
        fields = {}
        while line := self._file.readline().strip():
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        return status, fields, self._file.read(int(fields.get(b"content-length", 0)))

    def is_closed(self) -> bool:
        """Return whether nothing more comes; waits for either."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    path = tmp_path_factory.mktemp("tls") / "pem"
    certificate = trustme.CA().issue_cert("example.com")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    plain = find_free_port()
    settings = {
        "CERTFILE": str(path),
        "REDIRECT_HTTP": [f"127.0.0.1:{plain}"],
        "HEADERS": ["Strict-Transport-Security: max-age=1"],
        "LIFESPAN": "off",
    }
    policy = OriginPolicy(HOSTS)
    server = LiveServer(application, settings=settings, origin_policy=policy)
    with server:
        yield server.port, plain


@pytest.fixture
def plain(ports: tuple[int, int]) -> Iterator[Plain]:
    client = Plain(*ports)
    yield client
    client.close()


@pytest.mark.e2e
def test_connection_is_kept_for_further_requests(plain: Plain) -> None:
    plain.send(b"GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\n" * 2)
    plain.send(b"GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    answers = [plain.receive() for _ in range(3)]

    location = f"https://example.com:{plain.https_port}/a?b".encode()
    assert [each[1].get(b"location") for each in answers] == [location, location, None]
    assert [each[0] for each in answers] == [301, 301, 400]
    assert all(each[1].get(b"connection") != b"close" for each in answers)
    assert not any(b"strict-transport-security" in each[1] for each in answers)

    plain.send(b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
    status, fields, _ = plain.receive()
    assert (status, fields[b"connection"]) == (301, b"close")
    assert plain.is_closed()


@pytest.mark.e2e
def test_old_clients_connection_is_closed(plain: Plain) -> None:
    plain.send(b"GET / HTTP/1.0\r\nHost: example.com\r\n\r\n")

    assert plain.receive()[0] == 301
    assert plain.is_closed()


@pytest.mark.e2e
def test_content_of_a_request_is_passed_over(plain: Plain) -> None:
    head = b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\n"
    plain.send(head + b"12345" + head + b"12345")

    assert [plain.receive()[0] for _ in range(2)] == [308, 308]


@pytest.mark.e2e
def test_requests_sent_ahead_leave_turns_to_others(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = TurnCounts()
    turns.count_calls(monkeypatch, RedirectExchange, "start")
    plain.send(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" * 1000)

    assert {plain.receive()[0] for _ in range(1000)} == {301}
    assert turns.total == 1000
    assert turns.most == AT_ONCE_LIMIT


@pytest.mark.e2e
def test_head_has_no_content(plain: Plain) -> None:
    plain.send(b"HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n" * 2)

    assert [plain.receive()[0] for _ in range(2)] == [301, 301]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: example.com\r\n\r\n",
        b"GET / HTTP/1.1\nHost: example.com\n\n",
        b"GET http:///x HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ],
    ids=["TLS", "no host", "two hosts", "no carriage return", "empty authority"],
)
def test_malformed_request_gets_400(plain: Plain, data: bytes) -> None:
    plain.send(data)
    status, fields, _ = plain.receive()

    assert (status, fields.get(b"location")) == (400, None)
    assert plain.is_closed()


@pytest.mark.e2e
def test_authority_of_the_target_counts(plain: Plain) -> None:
    plain.send(b"GET http://evil.com/x HTTP/1.1\r\nHost: example.com\r\n\r\n")
    plain.send(b"GET http://example.com/x HTTP/1.1\r\nHost: evil.com\r\n\r\n")

    assert [plain.receive()[0] for _ in range(2)] == [400, 301]


@pytest.mark.e2e
def test_websocket_is_redirected_too(plain: Plain) -> None:
    plain.send(
        b"GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    assert plain.receive()[0] == 301
