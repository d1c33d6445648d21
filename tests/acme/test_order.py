"""What an order's failure says; that orders succeed, tests/e2e/test_acme.py shows."""

from __future__ import annotations

import io
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from acme import errors, messages

from djserve.acme import order
from djserve.acme.folder import CertificateFolder
from djserve.conf.schema_https import ACMEConfig
from tests.conftest import find_free_port


def test_each_name_is_told_with_its_reason() -> None:
    make: Any = messages.Error
    failure = make(typ="urn:ietf:params:acme:error:dns", detail="no\naddress")
    authorization = messages.AuthorizationResource(
        uri="",
        body=messages.Authorization(
            identifier=messages.Identifier(
                typ=messages.IDENTIFIER_FQDN, value="a.example.com"
            ),
            challenges=(messages.ChallengeBody(chall=None, uri="", error=failure),),
        ),
    )
    text = order.explain(errors.ValidationError([authorization]))

    assert text.startswith("a.example.com: ")
    assert "no address" in text


def test_error_without_a_text_has_its_name() -> None:
    assert order.explain(errors.TimeoutError()) == "TimeoutError"


@pytest.mark.e2e
def test_directory_that_does_not_answer_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"https://127.0.0.1:{find_free_port()}/directory"
    given: dict[str, Any] = {
        "acme_folder": str(tmp_path / "acme"),
        "acme_directory": url,
    }
    CertificateFolder(ACMEConfig(acme_domains=("a.example.com",), **given)).prepare()
    config = {**given, "acme_domains": ["a.example.com"]}
    text = {"config": config, "owner": [None, None]}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(text)))

    assert order.main() == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"no directory could be read from {url}: ")
    assert "Connection refused" in line


class _Limit(BaseHTTPRequestHandler):
    """An authority that has had too many requests."""

    def do_GET(self) -> None:
        problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "later"}
        content = json.dumps(problem).encode()
        self.send_response(429)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Retry-After", "7200")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def limit(tmp_path: Path) -> Iterator[str]:
    """Give the URL of an authority that answers 429."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Limit)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    thread.start()
    yield f"https://localhost:{server.server_port}/directory"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.e2e
def test_wait_that_the_authority_asks_for_is_told_first(
    tmp_path: Path,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    given: dict[str, Any] = {
        "acme_folder": str(tmp_path / "acme"),
        "acme_directory": limit,
        "acme_ca_file": str(tmp_path / "ca.pem"),
    }
    CertificateFolder(ACMEConfig(acme_domains=("a.example.com",), **given)).prepare()
    config = {**given, "acme_domains": ["a.example.com"]}
    text = {"config": config, "owner": [None, None]}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(text)))

    assert order.main() == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == "Retry-After: 7200"
    assert "rateLimited" in last
