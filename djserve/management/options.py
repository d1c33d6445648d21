"""The command line of ``runasgi`` as settings, and the flag for https of both commands.

What https needs is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.conf.options import mapping_from_namespace
from djserve.conf.parser import Flag
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from djserve.net.local_authority import DevelopmentCertificate

DEFAULT_HOST = "127.0.0.1"


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the command line gives, ``addrport`` among BIND."""
    address = options.get("addrport")
    if not address:
        return mapping_from_namespace(options)
    # As with Django's runserver, digits alone are a port of this machine.
    text = f"{DEFAULT_HOST}:{address}" if address.isdigit() else address
    bind = [Flag("addrport", text), *options.get("bind", [])]
    return mapping_from_namespace({**options, "bind": bind})


def find_development_certificate(
    mapping: MutableMapping[str, Any],
) -> DevelopmentCertificate:
    """Put this machine's own certificate into a mapping of settings; return it.

    It is made on the first use. Raises ConfigError if the mapping names another
    certificate, and if it cannot be written.
    """
    from djserve.net.certificates import development_certificate

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
    from djserve.net.certificates import explain_trust

    return f"To trust https on this machine: {explain_trust(certificate.ca_path)}"
