"""The settings of HTTP/2, part of ``conf.schema``."""

from __future__ import annotations

from dataclasses import dataclass

from djserve.conf.declaration import setting

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTP2Config:
    """HTTP/2"""

    http2: bool = setting(True, "Offer HTTP/2 to clients that connect with TLS.")
    http2_cleartext: str = setting(
        "trusted",
        "Which cleartext connections may begin with HTTP/2: off (none), trusted "
        "(those of this machine and of the trusted proxies) or on (all).",
        choices=("off", "trusted", "on"),
    )
    http2_stream_limit: int = setting(
        100,
        "Streams that a connection may have open; more are refused.",
        minimum=1,
    )
    http2_call_limit: int = setting(
        100,
        "Application calls that may run for a connection, those whose client has reset "
        "the stream included; streams beyond are refused.",
        minimum=1,
    )
    http2_stream_window_size: int = setting(
        256 * KIB,
        "Bytes of a request's content that may wait for the application, at first; "
        "more once it has kept up.",
        minimum=1024,
        unit="bytes",
    )
    http2_connection_window_size: int = setting(
        1 * MIB,
        "Bytes of content that may wait for the application, all requests of a "
        "connection together.",
        minimum=65535,
        unit="bytes",
    )
    http2_reset_limit: int = setting(
        200,
        "Streams that a client may reset, or make the server reset, in 10 seconds; "
        "then the connection is closed.",
        minimum=1,
    )
    http2_control_frame_limit: int = setting(
        1000,
        "Frames without content (SETTINGS, PING, WINDOW_UPDATE, priorities, empty "
        "DATA) in 10 seconds, beyond those that requests and responses call for; then "
        "the connection is closed.",
        minimum=16,
    )
    http2_fragment_limit: int = setting(
        16,
        "CONTINUATION frames in a request's head; more close the connection.",
        minimum=0,
    )
    http2_settings_timeout: float = setting(
        10.0,
        "Seconds for a client to acknowledge the server's SETTINGS.",
        minimum=0.05,
    )
    http2_ping_interval: float = setting(
        30.0,
        "Seconds of silence after which a connection with open streams is asked for a "
        "sign of life; 0 turns it off.",
        minimum=0,
    )
    http2_ping_timeout: float = setting(
        20.0,
        "Seconds to wait for that sign before the connection is closed.",
        minimum=0.05,
    )
