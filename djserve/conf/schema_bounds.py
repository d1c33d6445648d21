"""The settings that bound all connections of a process, part of ``conf.schema``."""

from __future__ import annotations

from dataclasses import dataclass

from djserve.conf.declaration import setting

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundsConfig:
    """Bounds over all connections of a process"""

    connection_limit: int | None = setting(
        None,
        "Connections that a process, so each worker, may have open. Beyond it the "
        "longest idle ones are closed, and if there are none, new ones get 503. By "
        "default nine tenths of the file descriptors that the process may have, less "
        "32.",
        minimum=1,
    )
    client_memory_limit: int = setting(
        512 * MIB,
        "Bytes that may wait in a process, so in each worker, for clients or from "
        "them, all connections together; beyond it the connections that hold most "
        "are closed.",
        minimum=65_536,
        unit="bytes",
    )
    upload_disk_limit: int = setting(
        8192 * MIB,
        "Bytes of request content that a process, so each worker, may hold in "
        "temporary files, all requests together; more get 503.",
        minimum=0,
        unit="bytes",
    )
    body_time_limit: float | None = setting(
        3600.0,
        "Seconds for all of a request's content to arrive, before Django's view is "
        "called; then 408.",
        minimum=0.05,
    )
