"""Certificates from pebble, a real ACME server, ordered and renewed while serving."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography import x509

from tests.conftest import find_free_port
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

NAMES = ("a.example.com", "b.example.com")

APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})
"""


class Pebble:
    """A certificate authority that asks port ``http_port`` of this machine."""

    def __init__(self, folder: Path, program: str, resolver: str) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        self.http_port, self.tls_port = find_free_port(), find_free_port()
        self._port, self._management = find_free_port(), find_free_port()
        settings = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(folder / "cert.pem"),
            "privateKey": str(folder / "key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "certificateValidityPeriod": 6,
            # What newer releases read instead.
            "profiles": {"default": {"description": "short", "validityPeriod": 6}},
        }
        (folder / "config.json").write_text(json.dumps({"pebble": settings}))
        dns = find_free_port()
        usage = subprocess.run([resolver, "-help"], capture_output=True, text=True)
        is_new = "-dns01" not in usage.stderr
        dns_words = [resolver, *(["-doh", "", "-dnsserver"] if is_new else ["-dns01"])]
        dns_words += [f"127.0.0.1:{dns}", "-defaultIPv4"]
        dns_words += ["127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", ""]
        dns_words += ["-tlsalpn01", ""]
        dns_words += ["-management", f"127.0.0.1:{find_free_port()}"]
        words = [program, "-config", str(folder / "config.json")]
        words += ["-dnsserver", f"127.0.0.1:{dns}"]
        environ = {**os.environ, "PEBBLE_VA_NOSLEEP": "1"}
        # Per cent of the nonces that it refuses: the real ones refuse some, too.
        environ |= {"PEBBLE_VA_ALWAYS_VALID": "0", "PEBBLE_WFE_NONCEREJECT": "20"}
        with (folder / "log").open("wb") as log:
            self._processes = [
                subprocess.Popen(each, env=environ, stdout=log, stderr=log)
                for each in (dns_words, words)
            ]
        self.directory = f"https://localhost:{self._port}/dir"

    def wait_until_ready(self) -> None:
        """Return once it answers."""
        wait_for(self._is_ready, 0.05)

    def _is_ready(self) -> bool:
        assert all(process.poll() is None for process in self._processes)
        try:
            self._get("/roots/0")
        except httpx.TransportError:
            return False
        return True

    def _get(self, path: str) -> str:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        url = f"https://localhost:{self._management}{path}"
        return httpx.get(url, verify=context, timeout=60).text

    def trust(self) -> ssl.SSLContext:
        """Return a client's context that trusts what it issues."""
        context = ssl.create_default_context(cadata=self._get("/roots/0"))
        # A slow machine may be slower than a life of a few seconds.
        context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
        return context

    def close(self) -> None:
        """End it."""
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def pebble(tmp_path: Path, require_program: Callable[..., str]) -> Iterator[Pebble]:
    program = require_program("pebble")
    authority = Pebble(
        tmp_path / "pebble", program, require_program("pebble-challtestsrv")
    )
    try:
        authority.wait_until_ready()
        yield authority
    finally:
        authority.close()


@pytest.fixture
def start(
    tmp_path: Path, pebble: Pebble, start_server: Callable[..., Any]
) -> Callable[..., Any]:
    """Give ``start(http_port, *options)``: a server that wants certificates.

    Without a port for http, the challenge is tls-alpn-01.
    """
    (tmp_path / "app.py").write_text(APPLICATION)

    def start(http_port: int | None, *options: str) -> Any:
        words = ["-m", "djserve", "app:application"]
        words += ["--bind", f"127.0.0.1:{pebble.tls_port}", "--acme-agree-to-terms"]
        if http_port is None:
            words += ["--acme-challenge", "tls-alpn-01"]
        else:
            words += ["--redirect-http", f"127.0.0.1:{http_port}"]
        words += ["--acme-directory", pebble.directory, "--acme-folder", "acme"]
        words += ["--acme-ca-file", str(pebble.ca_file)]
        words += ["--certificate-check-interval", "0.2", *options]
        for name in NAMES:
            words += ["--acme-domains", name]
        env = {"DJANGO_SETTINGS_MODULE": ""}
        return start_server(*words, port=pebble.tls_port, cwd=tmp_path, env=env)

    return start


def served(port: int, context: ssl.SSLContext, name: str) -> x509.Certificate:
    """Return the certificate that a client sees."""
    with (
        socket.create_connection(("127.0.0.1", port), 120) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_certificate_is_ordered_and_renewed_while_serving(
    pebble: Pebble,
    start: Callable[..., Any],
    tmp_path: Path,
    workers: str,
    challenge: str,
) -> None:
    http_port = pebble.http_port if challenge == "http-01" else None
    server = start(http_port, "--workers", workers)
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    trusting = pebble.trust()
    first = served(server.port, anything, NAMES[0])

    server.wait_for("New certificate for a.example.com, b.example.com", 2)
    wait_for(lambda: served(server.port, anything, NAMES[0]) != first)
    serials = {served(server.port, trusting, name).serial_number for name in NAMES}
    wait_for(
        lambda: served(server.port, trusting, NAMES[0]).serial_number not in serials
    )

    assert first.subject == first.issuer
    folder = next((tmp_path / "acme").iterdir())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["account.pem"] == modes["certificate.pem"] == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert "Traceback" not in server.output
    assert "No certificate" not in server.output


def test_failure_is_told_and_the_server_serves_on(
    pebble: Pebble, start: Callable[..., Any], tmp_path: Path
) -> None:
    server = start(find_free_port())
    server.wait_for("No certificate for a.example.com, b.example.com: ")

    with httpx.Client(verify=False, timeout=120) as client:
        assert client.get(f"https://127.0.0.1:{server.port}/").text == "served"
    line = next(line for line in server.output.splitlines() if "No certificate" in line)
    assert "example.com: " in line
    assert "The one in use stays; the next try is in" in line
    assert "Traceback" not in server.output
    folder = next((tmp_path / "acme").iterdir())
    assert list((folder / "challenges").iterdir()) == []
