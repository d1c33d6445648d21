"""The answers to an authority's challenges, as the server that is asked reads them.

Every server imports this: it knows no cryptography.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from djserve.conf.schema_https import certificate_path
from djserve.postponed import pattern
from djserve.system import NO_FOLLOW, READ, open_regular

if TYPE_CHECKING:
    from djserve.conf.schema_https import ACMEConfig

CHALLENGES = "challenges"
CHALLENGE_LIMIT = 1024

# Nothing else is a token (RFC 8555 section 8.3), so no path leads out of the folder.
_TOKEN = pattern(r"[A-Za-z0-9_-]{1,128}")


def is_token(text: str) -> bool:
    """Return whether a text may be the name of a challenge (RFC 8555 section 8.3)."""
    return _TOKEN.fullmatch(text) is not None


def find_tls_challenge(config: ACMEConfig, name: str | None) -> str | None:
    """Return the file of the certificate that answers for a name (tls-alpn-01)."""
    if name is None or name.lower() not in map(str.lower, config.acme_domains):
        return None
    path = tls_challenge_path(config, name)
    return path if os.path.isfile(path) else None


def tls_challenge_path(config: ACMEConfig, name: str) -> str:
    """Return where a name's answer is; no token, which are asked for, has the dots."""
    folder = os.path.dirname(certificate_path(config))
    return os.path.join(folder, CHALLENGES, f"{name.lower()}.pem")


def read_challenge(config: ACMEConfig, token: str) -> bytes | None:
    """Return the answer to a challenge, None if there is none of that name."""
    if not is_token(token):
        return None
    path = Path(certificate_path(config)).parent / CHALLENGES / token
    try:
        descriptor = open_regular(path, READ | NO_FOLLOW)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return file.read(CHALLENGE_LIMIT)
