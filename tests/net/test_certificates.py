"""Certificates by name, loaded again, refused where they are wrong."""

from __future__ import annotations

import logging
import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from djserve.conf.schema import TLSConfig
from djserve.errors import ConfigError
from djserve.net.certificates import Certificates
from djserve.net.tls import ServerContext
from tests.support.logs import own_records


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, path: Path, *names: str) -> str:
    leaf = authority.issue_cert(*names)
    leaf.private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def begin(
    certificates: Certificates,
    ca: trustme.CA,
    name: str | None,
    alpn: tuple[str, ...] = (),
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return a client and a server that are connected."""
    client_context = ssl.create_default_context()
    ca.configure_trust(client_context)
    client_context.check_hostname = False
    if alpn:
        client_context.set_alpn_protocols(list(alpn))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    return client, server


def handshake(
    certificates: Certificates,
    ca: trustme.CA,
    name: str | None,
    alpn: tuple[str, ...] = (),
) -> str:
    """Return the names in the certificate that a client gets."""
    client, server = begin(certificates, ca, name, alpn)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            if side is client:
                raise
    assert isinstance(server.context, ServerContext)
    return str(client.getpeercert())


@pytest.fixture
def certfile(tmp_path: Path, authority: trustme.CA) -> str:
    return issue(authority, tmp_path / "first.pem", "first.example")


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("first.example", "first.example"),
        ("SECOND.example", "second.example"),
        ("a.wild.example", "second.example"),
        ("a.b.wild.example", "first.example"),
        ("wild.example", "first.example"),
        ("unknown.example", "first.example"),
        (None, "first.example"),
    ],
)
def test_name_chooses(
    certfile: str, authority: trustme.CA, tmp_path: Path, asked: str | None, got: str
) -> None:
    other = issue(authority, tmp_path / "2.pem", "second.example", "*.wild.example")
    config = TLSConfig(certfile=certfile, sni_certfiles=(other,))

    assert got in handshake(Certificates(config, ["h2"]), authority, asked)


def test_reload_takes_new_files(certfile: str, authority: trustme.CA) -> None:
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2"])
    issue(authority, Path(certfile), "renewed.example")

    assert certificates.reload()
    assert "renewed.example" in handshake(certificates, authority, "x")


def test_wrong_file_leaves_the_old_in_use(
    certfile: str, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2"])
    Path(certfile).write_text("nonsense")

    with caplog.at_level(logging.ERROR):
        assert not certificates.reload()
    assert "holds no certificate" in caplog.text
    assert "first.example" in handshake(certificates, authority, "x")


def test_changed_file_is_found_after_the_interval(
    certfile: str, authority: trustme.CA
) -> None:
    config = TLSConfig(certfile=certfile, certificate_check_interval=10)
    certificates = Certificates(config, ["h2"])
    certificates.tick(0.0)
    issue(authority, Path(certfile), "renewed.example")
    # The clock of the file system may not have moved since the file was made.
    os.utime(certfile, (1.0, 1.0))
    certificates.tick(9.9)
    assert "first.example" in handshake(certificates, authority, "x")

    certificates.tick(10.0)
    assert "renewed.example" in handshake(certificates, authority, "x")


def test_unchanged_files_are_not_loaded_again(
    certfile: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2"])
    with caplog.at_level(logging.INFO):
        for now in (0.0, 10.0, 20.0):
            certificates.tick(now)

    assert own_records(caplog) == []


def test_missing_file_is_no_change_for_the_better(
    certfile: str, authority: trustme.CA
) -> None:
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2"])
    certificates.tick(0.0)
    Path(certfile).unlink()
    certificates.tick(10.0)

    assert "first.example" in handshake(certificates, authority, "x")


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("none", ssl.CERT_NONE),
        ("optional", ssl.CERT_OPTIONAL),
        ("required", ssl.CERT_REQUIRED),
    ],
)
def test_clients_are_asked_for_certificates(
    certfile: str, value: str, mode: ssl.VerifyMode
) -> None:
    certificates = Certificates(
        TLSConfig(
            certfile=certfile, client_certificates=value, client_ca_file=certfile
        ),
        ["h2"],
    )

    assert certificates.context.verify_mode == mode
    assert certificates.choose(None).verify_mode == mode


def test_file_without_authorities_is_refused(certfile: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")

    with pytest.raises(ConfigError, match=r"ca\.pem holds no authorities"):
        Certificates(
            TLSConfig(certfile=certfile, client_ca_file=str(tmp_path / "ca.pem")), []
        )


@pytest.mark.parametrize("name", ["first.example", None])
def test_no_protocol_in_common_is_said(
    certfile: str, authority: trustme.CA, name: str | None
) -> None:
    # RFC 7301 section 3.2.
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2", "http/1.1"])

    with pytest.raises(ssl.SSLError) as caught:
        handshake(certificates, authority, name, ("h3", "spdy/1"))
    assert "NO_APPLICATION_PROTOCOL" in str(caught.value).upper().replace(" ", "_")
    # The next clients are not its heirs.
    for alpn in ((), ("h3", "http/1.1"), ("h2",)):
        assert "first.example" in handshake(certificates, authority, name, alpn)


@pytest.mark.parametrize("between", ["spdy/1", "acme-tls/1"])
def test_second_hello_is_not_judged_by_what_another_client_offered(
    tmp_path: Path, certfile: str, authority: trustme.CA, between: str
) -> None:
    # RFC 8446 section 4.1.4: clients are asked for a second one for their key share.
    answer = issue(authority, tmp_path / "answer.pem", "first.example")
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2"], lambda _: answer)
    certificates.context.set_ecdh_curve("secp384r1")
    client, server = begin(certificates, authority, "first.example", ("h2",))
    other = begin(certificates, authority, "first.example", (between,))
    for side in (client, server, client, *other, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()

    assert server.selected_alpn_protocol() == client.selected_alpn_protocol() == "h2"
    assert server.context is certificates.choose("first.example")


def test_authority_alone_sees_the_answer_to_its_challenge(
    tmp_path: Path, certfile: str, authority: trustme.CA
) -> None:
    # RFC 8737 section 3: by the protocol, and by the name that is asked for.
    answer = issue(authority, tmp_path / "answer.pem", "challenge.example")
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    config = TLSConfig(
        certfile=certfile, client_certificates="required", client_ca_file=str(ca_file)
    )
    paths = {"challenge.example": answer, "gone.example": str(tmp_path / "gone")}
    certificates = Certificates(config, ["h2"], lambda name: paths.get(name or ""))
    asked = ("challenge.example", ("acme-tls/1",))

    assert "challenge.example" in handshake(certificates, authority, *asked)
    for name in ("first.example", "gone.example", None):
        with pytest.raises(ssl.SSLError):
            handshake(certificates, authority, name, ("acme-tls/1",))
    for alpn in ((), ("h2",), ("acme-tls/1", "h2")):
        seen = handshake(certificates, authority, "challenge.example", alpn)
        assert "first.example" in seen


def test_challenge_protocol_is_not_spoken_unless_it_is_wanted(
    certfile: str, authority: trustme.CA
) -> None:
    certificates = Certificates(TLSConfig(certfile=certfile), ["h2"])
    with pytest.raises(ssl.SSLError):
        handshake(certificates, authority, "first.example", ("acme-tls/1",))


@pytest.mark.parametrize(
    ("days", "words"), [(-1, "has expired"), (1, None), (0, "is not valid before")]
)
def test_certificate_out_of_its_time_is_pointed_out(
    tmp_path: Path,
    authority: trustme.CA,
    days: int,
    words: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = datetime.now(UTC)
    begin = now + timedelta(days=1) if days == 0 else now - timedelta(days=9)
    leaf = authority.issue_cert(
        "a.example",
        not_before=begin,
        not_after=begin + timedelta(days=9 + days),
    )
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "a.pem")
    certificates = Certificates(TLSConfig(certfile=str(tmp_path / "a.pem")), ["h2"])
    certificates.reload()

    messages = [r.getMessage() for r in own_records(caplog) if r.levelname == "WARNING"]
    assert len(messages) == (0 if words is None else 2)
    assert all(str(words) in message for message in messages)
