"""A server with HTTP/3 in a process, its application, and how Chromium is led to it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.e2e.applications import HELPERS
from tests.e2e.http3_client import Client, open_client

APPLICATION = (
    """
import asyncio
import hashlib
import random

held = asyncio.Event()
sent = ended = 0


async def app(scope, receive, send):
    global sent, ended
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        return await echo(receive, send)
    path = scope["path"]
    if path == "/count":
        await respond(send, b"%d" % await count(receive))
    elif path == "/digest":
        digest = hashlib.sha256()
        async for data in read(receive):
            digest.update(data)
        await respond(send, digest.hexdigest().encode())
    elif path == "/blocks":
        await send({"type": "http.response.start", "status": 200})
        blocks = random.Random(1)
        for _ in range(int(scope["query_string"])):
            await send_part(send, blocks.randbytes(65536), True)
        await send_part(send, b"", False)
    elif path == "/held":
        await held.wait()
        await respond(send, b"%d" % await count(receive))
    elif path == "/release":
        held.set()
        await respond(send, b"")
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for _ in range(int(scope["query_string"])):
            await send_part(send, b"x" * 65536, True)
            sent += 65536
        await send_part(send, b"", False)
    elif path == "/sent":
        await respond(send, b"%d" % sent)
    elif path == "/wait":
        await send({"type": "http.response.start", "status": 200})
        await send_part(send, b"begun", True)
        message = await receive()
        while message["type"] != "http.disconnect":
            message = await receive()
        ended += 1
    elif path == "/ended":
        await respond(send, b"%d" % ended)
    elif path == "/scope":
        tls = scope["extensions"]["tls"]
        await respond(send, repr((scope["http_version"], scope["scheme"],
            scope["path"], scope["query_string"], tls["tls_version"],
            tls["server_cert"][:10], sorted(scope["extensions"]))).encode())
    elif path == "/certificate":
        await respond(send, scope["extensions"]["tls"]["server_cert"].encode())
    elif path == "/server":
        host, port = scope["server"]
        await respond(send, f"{host} {port}".encode())
    elif path == "/trailers":
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send_part(send, b"content", False)
        await send({"type": "http.response.trailers",
            "headers": [(b"x-sum", b"7")], "more_trailers": False})
    elif path == "/hints":
        await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        await respond(send, b"hinted")
    elif path == "/status":
        await respond(send, b"content", int(scope["query_string"]))
    elif path == "/fail":
        await send({"type": "http.response.start", "status": 200})
        await send_part(send, b"begun", True)
        raise RuntimeError("as planned")
    else:
        await respond(send, path.encode())
"""
    + HELPERS
)


class Server:
    """A server in a process of its own, and what a client needs for it."""

    def __init__(self, process: Any, port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder

    def talk(
        self,
        conversation: Callable[[Client], Awaitable[Any]],
        kind: type[Client] = Client,
        **options: Any,
    ) -> Any:
        """Run a conversation on a connection of its own; return what it returns."""

        async def run() -> Any:
            ca = self.folder / "ca.pem"
            async with open_client(self.port, ca, kind, **options) as client:
                return await conversation(client)

        return asyncio.run(run())

    @property
    def log(self) -> str:
        return str(self.process.log.read_text())


def fill(folder: Path, authority: trustme.CA, application: str = APPLICATION) -> Path:
    """Put an application and its certificate into a folder."""
    (folder / "application.py").write_text(application)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    return folder


def serve_folder(
    start_server: Callable[..., Any],
    folder: Path,
    port: int,
    *flags: str,
    host: str = "127.0.0.1",
) -> Server:
    process = start_server(
        *("-m", "djserve", "application:app", "--bind", f"{host}:{port}"),
        *("--certfile", str(folder / "cert.pem"), "--http3"),
        *flags,
        port=port,
        env={"PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": ""},
    )
    return Server(process, port, folder)


def quic_arguments(origin: str, certfile: Path) -> list[str]:
    """Return what has Chromium ask an origin by QUIC at once, and trust it."""
    pem = certfile.read_bytes()
    certificate = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])
    key = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    key_hash = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return [
        "--no-sandbox",
        f"--origin-to-force-quic-on={origin}",
        f"--ignore-certificate-errors-spki-list={key_hash}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
    ]
