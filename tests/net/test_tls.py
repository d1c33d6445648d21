from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL

from djserve.errors import ConfigError
from djserve.net.acceptor import accept_connections
from djserve.net.tls import (
    cipher_numbers,
    distinguished_name,
    pyopenssl_extension,
    server_context,
)
from djserve.net.twisted.reactor import Reactor


@pytest.fixture(scope="module")
def issued() -> trustme.LeafCert:
    return trustme.CA().issue_cert("localhost")


@pytest.fixture
def certfile(issued: trustme.LeafCert, tmp_path: Path) -> str:
    path = tmp_path / "cert.pem"
    issued.cert_chain_pems[0].write_to_path(path)
    return str(path)


@pytest.fixture
def keyfile(issued: trustme.LeafCert, tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(path)
    return str(path)


def encrypt(keyfile: str, format: PrivateFormat) -> str:
    path = Path(keyfile)
    key = load_pem_private_key(path.read_bytes(), None)
    secret = BestAvailableEncryption(b"sesame")
    path.write_bytes(key.private_bytes(Encoding.PEM, format, secret))
    return keyfile


def test_context_takes_tls_1_2_and_newer(certfile: str, keyfile: str) -> None:
    context = server_context(certfile, keyfile)

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_every_cipher_has_forward_secrecy_and_is_authenticated(
    certfile: str, keyfile: str
) -> None:
    ciphers = server_context(certfile, keyfile).get_ciphers()

    assert ciphers
    assert all(cipher["aead"] for cipher in ciphers)
    assert all(
        cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE")
        for cipher in ciphers
    )


def test_key_may_be_in_the_certificates_file(
    issued: trustme.LeafCert, tmp_path: Path
) -> None:
    path = tmp_path / "both.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(path)

    context = server_context(str(path))

    assert context.server_cert == issued.cert_chain_pems[0].bytes().decode()


@pytest.mark.parametrize(
    "format",
    [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL],
    ids=["pkcs8", "traditional"],
)
class TestEncryptedKey:
    def test_password_opens_it(
        self, certfile: str, keyfile: str, format: PrivateFormat
    ) -> None:
        encrypt(keyfile, format)

        assert server_context(certfile, keyfile, password="sesame").server_cert

    def test_wrong_password_is_named(
        self, certfile: str, keyfile: str, format: PrivateFormat
    ) -> None:
        encrypt(keyfile, format)

        with pytest.raises(ConfigError, match="password does not open"):
            server_context(certfile, keyfile, password="wrong")

    def test_missing_password_is_named_and_not_asked_for(
        self, certfile: str, keyfile: str, format: PrivateFormat
    ) -> None:
        encrypt(keyfile, format)

        with pytest.raises(ConfigError, match="encrypted and needs a password"):
            server_context(certfile, keyfile)


def test_missing_file_is_named(certfile: str) -> None:
    with pytest.raises(ConfigError, match=r"private key /missing\.pem cannot be read"):
        server_context(certfile, "/missing.pem")


def test_certificate_without_pem_is_named(tmp_path: Path, keyfile: str) -> None:
    path = tmp_path / "der"
    path.write_bytes(b"\x30\x82\x00\x01")

    with pytest.raises(ConfigError, match="der holds no certificate in PEM"):
        server_context(str(path), keyfile)


def test_missing_key_is_named(certfile: str) -> None:
    with pytest.raises(ConfigError, match=r"cert\.pem holds no private key"):
        server_context(certfile)


def test_key_of_another_certificate_is_named(certfile: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(path)

    with pytest.raises(ConfigError, match="does not match") as caught:
        server_context(certfile, str(path))

    assert len(caught.value.problems) == 1


def test_damaged_certificate_is_refused(tmp_path: Path, keyfile: str) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    with pytest.raises(ConfigError, match="OpenSSL refuses"):
        server_context(str(path), keyfile)


def test_cipher_numbers_are_those_of_the_registry(certfile: str, keyfile: str) -> None:
    numbers = cipher_numbers(server_context(certfile, keyfile))

    assert numbers["TLS_AES_256_GCM_SHA384"] == 0x1302
    assert numbers["ECDHE-RSA-AES128-GCM-SHA256"] == 0xC02F


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ([[("countryName", "AT")], [("commonName", "Ann")]], "CN=Ann,C=AT"),
        ([[("commonName", "a"), ("userId", "b")]], "CN=a+UID=b"),
        ([[("commonName", 'a,b+"c\\')]], 'CN=a\\,b\\+\\"c\\\\'),
        ([[("commonName", " #a ")]], "CN=\\ #a\\ "),
        ([[("commonName", "#a")]], "CN=\\#a"),
        ([[("serialNumber", "7")]], "serialNumber=7"),
    ],
)
def test_subject_is_written_by_rfc_4514(
    subject: list[list[tuple[str, str]]], name: str
) -> None:
    assert distinguished_name(subject) == name


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> None:
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass


def test_handshake_by_pyopenssl_is_described(
    issued: trustme.LeafCert, certfile: str, keyfile: str
) -> None:
    sides = []
    for method in (SSL.TLS_CLIENT_METHOD, SSL.TLS_SERVER_METHOD):
        context = SSL.Context(method)
        context.use_certificate_file(certfile)
        context.use_privatekey_file(keyfile)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        sides.append(SSL.Connection(context, None))
    shake_hands(*sides)

    extension = pyopenssl_extension(sides[1])

    pem = issued.cert_chain_pems[0].bytes().decode()
    assert extension["server_cert"] == pem
    assert extension["client_cert_chain"] == [pem]
    assert "O=trustme" in extension["client_cert_name"]
    assert extension["tls_version"] == 0x0304
    assert extension["cipher_suite"] in (0x1301, 0x1302, 0x1303)


def shake_hands_in_memory(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLObject, bytes]:
    """Return the client's end, and what the server sends after the handshake."""
    incoming, outgoing, back, forth = (ssl.MemoryBIO() for _ in range(4))
    ends = server.wrap_bio(incoming, outgoing, server_side=True)
    begins = client.wrap_bio(back, forth, session=session)
    for side in (begins, ends, begins, ends):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
        rest = outgoing.read()
        incoming.write(forth.read())
        back.write(rest)
    with pytest.raises(ssl.SSLWantReadError):
        begins.read()
    return begins, rest


def test_client_gets_one_ticket_and_may_begin_with_it(
    certfile: str, keyfile: str
) -> None:
    server = server_context(certfile, keyfile)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    first, tickets = shake_hands_in_memory(client, server, None)
    second, _ = shake_hands_in_memory(client, server, first.session)

    assert len(tickets) == 5 + int.from_bytes(tickets[3:5], "big")
    assert second.session_reused


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("ciphers", "asks", "reason"),
    [
        ("AES128-SHA", ssl.CERT_NONE, "handshake failure"),
        ("ALL", ssl.CERT_REQUIRED, "certificate required"),
    ],
)
def test_client_of_a_failed_handshake_is_told_why(
    run_on_reactor: Callable[..., Any],
    certfile: str,
    keyfile: str,
    ciphers: str,
    asks: ssl.VerifyMode,
    reason: str,
) -> None:
    context = server_context(certfile, keyfile)
    context.verify_mode = asks
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_ciphers(ciphers)
    if asks is ssl.CERT_NONE:
        client.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(port: int) -> None:
        sock = socket.create_connection(("127.0.0.1", port), 60)
        with sock, client.wrap_socket(sock) as session:
            session.recv(1)

    async def scenario(reactor: Reactor) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        close = accept_connections(
            reactor.loop,
            sock,
            asyncio.Protocol,
            backlog=1,
            ssl_context=context,
            handshake_timeout=600,
        ).close
        with pytest.raises(ssl.SSLError) as caught:
            await asyncio.to_thread(connect, sock.getsockname()[1])
        assert reason in str(caught.value)
        close()

    run_on_reactor(scenario)


@pytest.mark.e2e
def test_failed_handshake_ends_with_its_client(
    run_on_reactor: Callable[..., Any], certfile: str, keyfile: str
) -> None:
    """It neither waits for the timeout nor begins again."""
    context = server_context(certfile, keyfile)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(incoming, outgoing).do_handshake()
    hello = outgoing.read()

    async def scenario(reactor: Reactor) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        close = accept_connections(
            reactor.loop,
            sock,
            asyncio.Protocol,
            backlog=1,
            ssl_context=context,
            handshake_timeout=600,
        ).close
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(hello)
        # An alert record: fatal, handshake_failure.
        assert await reader.readexactly(7) == b"\x15\3\3\0\2\2\x28"
        writer.write(hello)
        assert await reader.read() == b""
        writer.close()
        close()

    run_on_reactor(scenario)
