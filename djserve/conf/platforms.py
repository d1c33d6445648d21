"""Hosting platforms, by what they put into the environment, and what does not fit them.

docs/guides/platforms.md has the source of each figure: the seconds between SIGTERM and
SIGKILL by default, and the seconds for which the router in front keeps an idle
connection. A server that closes first ends requests that the router has just sent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from djserve.conf.syntax import parse_duration
from djserve.values import Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from djserve.conf.schema import HTTPConfig, LifecycleConfig, ProxyConfig

CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
"""Files that Docker and Podman put into a container."""

MARGIN = 5.0
"""Seconds from the last request's end to SIGKILL: threads and the lifespan end then."""

MORE = 5.0
"""Seconds by which the timeout that has to be the longer one is proposed."""

LOCAL_PROXIES = {"127.0.0.0/8", "::1/128", "unix"}
"""TRUSTED_PROXIES by default: no platform's router is among these."""


class Platform(Values):
    """A platform; ``grace`` and ``keep_alive`` are in seconds.

    One of ``variables`` is set there; what ends with an underscore is the beginning of
    a name. ``more_grace`` is where more time is asked for, "" if that cannot be had;
    ``grace_variable`` holds what was asked for, if the platform shows it.
    ``keep_alive`` is 0 if connections are not kept, or it is not published how long.
    ``has_router`` if no client reaches the server but through the platform's router,
    which names it in ``client_header``.
    """

    name: str
    variables: tuple[str, ...]
    grace: float
    more_grace: str = ""
    grace_variable: str = ""
    keep_alive: float = 0.0
    has_router: bool = True
    client_header: str = "X-Forwarded-For"


PLATFORMS = (
    # Before Heroku: its buildpacks set DYNO, too.
    Platform("Dokku", ("DOKKU_",), 30, "dokku ps:set stop-timeout-seconds"),
    Platform("Heroku", ("DYNO",), 30, keep_alive=90),
    Platform(
        "Fly.io",
        ("FLY_APP_NAME",),
        5,
        "kill_timeout",
        keep_alive=60,
        # The last of its X-Forwarded-For is the application's own public address.
        client_header="Fly-Client-IP",
    ),
    Platform(
        "Render",
        ("RENDER",),
        30,
        "maxShutdownDelaySeconds",
        # The last of its X-Forwarded-For is an address of Cloudflare's.
        client_header="CF-Connecting-IP",
    ),
    Platform(
        "Railway",
        ("RAILWAY_",),
        0,
        "drainingSeconds",
        grace_variable="RAILWAY_DEPLOYMENT_DRAINING_SECONDS",
        keep_alive=60,
        client_header="X-Real-IP",
    ),
    Platform("Cloud Run", ("K_SERVICE",), 10, keep_alive=600),
    Platform(
        "Amazon ECS",
        ("ECS_CONTAINER_METADATA_",),
        30,
        "stopTimeout",
        # An Application Load Balancer's, if there is one.
        keep_alive=60,
        has_router=False,
    ),
    # After all that run on it, and show it.
    Platform(
        "Kubernetes",
        ("KUBERNETES_SERVICE_HOST",),
        30,
        "terminationGracePeriodSeconds",
        has_router=False,
    ),
)
CONTAINER = Platform("Docker", (), 10, "stop_grace_period", has_router=False)


def find_platform(environ: Mapping[str, str]) -> Platform | None:
    """Return the platform that this process runs on; None if it is not known."""
    for platform in PLATFORMS:
        if any(_is_set(variable, environ) for variable in platform.variables):
            return platform
    return CONTAINER if any(map(os.path.exists, CONTAINER_FILES)) else None


def describe_misfits(
    lifecycle: LifecycleConfig,
    http: HTTPConfig,
    proxy: ProxyConfig,
    platform: Platform | None,
    environ: Mapping[str, str],
    *,
    has_tls: bool,
) -> list[str]:
    """Return a line that names the settings that do not fit the platform, or none."""
    if platform is None:
        return []
    misfits = [
        *_find_grace(lifecycle, platform, environ),
        *_find_keep_alive(http, platform),
    ]
    # With TLS or the PROXY protocol the connections are the clients' own.
    if platform.has_router and not has_tls and not proxy.proxy_protocol:
        misfits += _find_proxy(proxy, platform)
    return [f"{platform.name}: {'; '.join(misfits)}"] if misfits else []


def _is_set(variable: str, environ: Mapping[str, str]) -> bool:
    if variable.endswith("_"):
        return any(name.startswith(variable) for name in environ)
    return bool(environ.get(variable))


def _find_grace(
    lifecycle: LifecycleConfig, platform: Platform, environ: Mapping[str, str]
) -> Iterator[str]:
    grace = _read_grace(lifecycle, platform, environ)
    shutdown = lifecycle.shutdown_timeout
    if shutdown < grace or not shutdown:
        return
    remedies = []
    if grace or not platform.more_grace:
        # Of a short time, the requests get half.
        remedies.append(f"SHUTDOWN_TIMEOUT to {max(grace - MARGIN, grace / 2):g}")
    if platform.more_grace:
        more = f"{shutdown + MORE:g}"
        remedies.append(f"{platform.more_grace} and PLATFORM_GRACE to {more}")
    yield (
        f"it kills a process {grace:g} seconds after SIGTERM, and SHUTDOWN_TIMEOUT is "
        f"{shutdown:g} (set {', or '.join(remedies)})"
    )


def _read_grace(
    lifecycle: LifecycleConfig, platform: Platform, environ: Mapping[str, str]
) -> float:
    if lifecycle.platform_grace is not None:
        return lifecycle.platform_grace
    try:
        return parse_duration(environ.get(platform.grace_variable, ""))
    except ValueError:
        return platform.grace


def _find_keep_alive(http: HTTPConfig, platform: Platform) -> Iterator[str]:
    keep_alive = http.keep_alive_timeout
    if keep_alive <= platform.keep_alive:
        yield (
            f"its router keeps idle connections for {platform.keep_alive:g} seconds, "
            f"and KEEP_ALIVE_TIMEOUT is {keep_alive:g} (set it to "
            f"{platform.keep_alive + MORE:g})"
        )


def _find_proxy(proxy: ProxyConfig, platform: Platform) -> Iterator[str]:
    remedies = []
    if not proxy.proxy_headers:
        remedies.append("PROXY_HEADERS")
    if LOCAL_PROXIES.issuperset(proxy.trusted_proxies):
        remedies.append("TRUSTED_PROXIES to private")
    if proxy.proxy_headers_host.lower() != platform.client_header.lower():
        remedies.append(f"PROXY_HEADERS_HOST to {platform.client_header}")
    if remedies:
        yield (
            "clients are not known by their own addresses, nor https as such (set "
            f"{', '.join(remedies)})"
        )
