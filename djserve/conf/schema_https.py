"""The settings of what comes with HTTPS, part of ``conf.schema``."""

from __future__ import annotations

import os
import re

from djserve.conf.declaration import setting
from djserve.values import Values


class RedirectConfig(Values, kw_only=True):
    """Redirect to HTTPS"""

    redirect_http: tuple[str, ...] = setting(
        (),
        "Address on which plain http is redirected to https, such as 0.0.0.0:80; "
        "needs a certificate. May be given several times.",
        metavar="ADDRESS",
        syntax="address",
    )
    redirect_port: int | None = setting(
        None,
        "HTTPS port that clients are redirected to; by default that of the first "
        "address of BIND.",
        minimum=1,
    )


class ACMEConfig(Values, kw_only=True):
    """Certificates by ACME"""

    acme_domains: tuple[str, ...] = setting(
        (),
        "Host names to order a certificate for by ACME, renewed before it expires; "
        "replaces CERTFILE and needs the package extra acme. May be given several "
        "times.",
        metavar="NAME",
        syntax="domain",
    )
    acme_folder: str | None = setting(
        None,
        "Folder for the account's key and the certificate.",
        metavar="PATH",
        syntax="new-file",
    )
    acme_challenge: str = setting(
        "http-01",
        "How the authority verifies that the names lead here: http-01 asks port 80 "
        "(REDIRECT_HTTP), tls-alpn-01 port 443 (BIND).",
        choices=("http-01", "tls-alpn-01"),
        metavar="CHALLENGE",
    )
    acme_agree_to_terms: bool = setting(
        False, "Agree to the certificate authority's terms of service."
    )
    acme_email: str | None = setting(
        None,
        "Email address for messages from the certificate authority.",
        metavar="ADDRESS",
    )
    acme_directory: str = setting(
        "https://acme-v02.api.letsencrypt.org/directory",
        "Directory of the certificate authority.",
        metavar="URL",
        syntax="https-url",
    )
    acme_ca_file: str | None = setting(
        None,
        "PEM file with the authorities to trust for the directory's server, if it is "
        "not a public one.",
        metavar="PATH",
        syntax="file",
    )


def certificate_path(config: ACMEConfig) -> str:
    """Return where the certificate is kept: another directory, another certificate."""
    url = re.sub(r"[^a-z0-9.-]+", "_", config.acme_directory.lower().split("://")[-1])
    folder = os.path.abspath(config.acme_folder or "")
    return os.path.join(folder, url.strip("_"), "certificate.pem")
