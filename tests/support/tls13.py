"""TLS 1.3 records of a client's making, which its library would never send.

The handshake is the library's; what comes after is encrypted here, by the secret that
the library logs (RFC 8446 sections 5 and 7).
"""

from __future__ import annotations

import hmac
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_HASHES = {
    "TLS_AES_128_GCM_SHA256": ("sha256", 16),
    "TLS_AES_256_GCM_SHA384": ("sha384", 32),
}
_APPLICATION_DATA, _HANDSHAKE, _ALERT = 23, 22, 21
_KEY_UPDATE = b"\x18\x00\x00\x01\x00"


def client_context(folder: Path) -> ssl.SSLContext:
    """Return a context whose connections ``RecordWriter`` may write for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = str(folder / "keys")
    return context


class RecordWriter:
    """Write records for a connection that has written nothing since its handshake."""

    def __init__(self, folder: Path, cipher: str) -> None:
        self._hash, self._key_size = _HASHES[cipher]
        lines = (folder / "keys").read_text().splitlines()
        (secret,) = [
            line.split()[2] for line in lines if line.startswith("CLIENT_TRAFFIC")
        ][-1:]
        self._use(bytes.fromhex(secret))

    def data(self, content: bytes, padding: int = 0) -> bytes:
        """Return a record of application data."""
        return self._write(content, _APPLICATION_DATA, padding)

    def end(self) -> bytes:
        """Return a close_notify."""
        return self._write(b"\x01\x00", _ALERT)

    def key_updates(self, count: int) -> bytes:
        """Return so many key updates, each in a record."""
        records = []
        for _ in range(count):
            records.append(self._write(_KEY_UPDATE, _HANDSHAKE))
            self._use(self._expand(b"traffic upd", len(self._secret)))
        return b"".join(records)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._expand(b"key", self._key_size))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._number = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\0"
        return hmac.digest(self._secret, info + b"\1", self._hash)[:size]

    def _write(self, content: bytes, kind: int, padding: int = 0) -> bytes:
        inner = content + bytes([kind]) + bytes(padding)
        head = struct.pack("!BHH", _APPLICATION_DATA, 0x0303, len(inner) + 16)
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._key.encrypt(nonce, inner, head)
