"""The settings of what stands beside HTTPS, part of ``conf.schema``."""

from __future__ import annotations

from dataclasses import dataclass

from djserve.conf.declaration import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectConfig:
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
        "Port of https that clients are redirected to; by default that of the first "
        "address of BIND.",
        minimum=1,
    )
