"""https for development: the flags of ``runserver`` and ``runasgi`` to settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.errors import ConfigError
from djserve.net.certificates import development_certificate, explain_trust

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from djserve.net.local_authority import DevelopmentCertificate


def find_development_certificate(
    mapping: MutableMapping[str, Any],
) -> DevelopmentCertificate:
    """Put this machine's own certificate into a mapping of settings; return it.

    It is made on the first use. Raises ConfigError if the mapping names another
    certificate, and if it cannot be written.
    """
    if "CERTFILE" in mapping or "KEYFILE" in mapping:
        raise ConfigError(
            ["https for development brings its own certificate: leave --certfile out"]
        )
    try:
        certificate = development_certificate()
    except OSError as error:
        raise ConfigError(
            [f"The development certificate cannot be written: {error}"]
        ) from error
    mapping["CERTFILE"] = certificate.certfile
    mapping["KEYFILE"] = certificate.keyfile
    return certificate


def trust_line(certificate: DevelopmentCertificate) -> str:
    """Return the line that tells how to make browsers here trust it."""
    return f"To trust https on this machine: {explain_trust(certificate.ca_path)}"
