"""Connection ids, and the tokens by which a server disowns them.

A datagram for a connection that is not known gets a stateless reset (RFC 9000 section
10.3): a client whose server was restarted connects again at once, and does not repeat
itself until its timeout. The token of an id follows from the certificate's private key,
which outlives the process.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration

ID_LENGTH = 8
"""Bytes of the connection ids that the server gives out."""

_TOKEN_LENGTH = 16
# RFC 9000 section 10.3: shorter ones could be told from other datagrams.
_RESET_LENGTH = 21
_LONGEST_RESET = 43


class ConnectionIds:
    """Make ids and their tokens; ``secret`` keeps others from making these.

    ``name`` is what the ids of one of several workers begin with.
    """

    def __init__(self, secret: bytes, name: bytes = b"") -> None:
        self._name = name
        self._key = hashlib.blake2b(secret, person=b"djserve reset").digest()

    @classmethod
    def from_configuration(
        cls, configuration: QuicConfiguration, name: bytes = b""
    ) -> ConnectionIds:
        """Return those of a server with a certificate."""
        key = configuration.private_key
        assert key is not None
        secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return cls(secret, name)

    def make(self) -> bytes:
        """Return a new id."""
        return self._name + os.urandom(ID_LENGTH - len(self._name))

    def find_token(self, connection_id: bytes) -> bytes:
        """Return the token of an id."""
        return hashlib.blake2b(
            connection_id, key=self._key, digest_size=_TOKEN_LENGTH
        ).digest()

    def build_reset(self, connection_id: bytes, size: int) -> bytes | None:
        """Return a stateless reset for a datagram of this size, None if it is short.

        It is shorter than the datagram, so that two servers that disown each other's
        ids come to an end.
        """
        length = min(size - 1, _LONGEST_RESET)
        if length < _RESET_LENGTH:
            return None
        start = bytearray(os.urandom(length - _TOKEN_LENGTH))
        # A short header, as far as anyone can see.
        start[0] = 0x40 | start[0] & 0x3F
        return bytes(start) + self.find_token(connection_id)
