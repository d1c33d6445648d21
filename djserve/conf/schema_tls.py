"""The settings of TLS, part of ``conf.schema``."""

from __future__ import annotations

from dataclasses import dataclass

from djserve.conf.declaration import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """TLS"""

    certfile: str | None = setting(
        None,
        "PEM file with the certificate chain; turns TLS on.",
        metavar="PATH",
        syntax="file",
    )
    keyfile: str | None = setting(
        None,
        "PEM file with the private key, if it is not in the certificate's file.",
        metavar="PATH",
        syntax="file",
    )
    keyfile_password: str | None = setting(
        None, "Password of the private keys that are encrypted.", metavar="PASSWORD"
    )
    sni_certfiles: tuple[str, ...] = setting(
        (),
        "Further PEM files, each with a certificate chain and its private key; the "
        "name that a client asks for chooses among all.",
        metavar="PATH",
        syntax="file",
    )
    client_certificates: str = setting(
        "none",
        "Whether clients are asked for a certificate: none, optional or required.",
        choices=("none", "optional", "required"),
    )
    client_ca_file: str | None = setting(
        None,
        "PEM file with the authorities whose client certificates are accepted.",
        metavar="PATH",
        syntax="file",
    )
    certificate_check_interval: float = setting(
        10.0,
        "Seconds between looks at the certificate files; new ones are used for new "
        "connections. 0 turns it off; SIGHUP loads them at any time.",
        minimum=0,
    )
