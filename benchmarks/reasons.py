"""Why a peer is ahead, by scenario: one to three sentences, without figures.

They are published beside the figures of each run, which may be others. What was tried,
and measured, stands in docs/explanation/performance.md.
"""

from __future__ import annotations

_ALLOCATOR = (
    "It is one or two pieces on their way, of up to 256 KiB, which the C library's"
    " heap keeps for a while; it does not grow with the transfer, and two runs of one"
    " server differ as much."
)
_SLOWEST = (
    "Of a hundred small requests it is about the slowest, so one pause of the machine"
    " decides. A server whose transfer is slower has less of it in front of a request."
)
_THREADS = (
    "In the threads djserve does less than gunicorn's do. What comes on top is the"
    " loop, most of it Sentry's middleware for ASGI, which traces there what it traces"
    " in the thread under WSGI."
)
_QUEUE = (
    "32 connections that ask again at once are a queue: the percentile follows the"
    " rate, and is later where some of them wait for longer than others."
)

REASONS: dict[str, str] = {
    "http1_new": (
        "In the kernel both cost the same, and djserve makes fewer calls. Granian"
        " accepts, parses and closes in Rust, without Python until it calls the"
        " application; here the objects of a connection, its task and uvloop's"
        " transport are made in Python for each."
    ),
    "http1_tls": (
        "TLS adds more to a request here than in Granian, which does it in Rust,"
        " outside the interpreter: each record passes through Python's ssl module."
        " Without TLS a hello is cheaper here."
    ),
    "http1_tls_new": (
        "The handshake is most of it. Granian makes it in Rust, outside the"
        " interpreter; here it is OpenSSL's, called by the loop, and all but a tenth of"
        " its time is OpenSSL's own."
    ),
    "access_log_cost": (
        "It is a share of a hello, which costs Daphne about ten times as much: a line"
        " of the same cost is a smaller part of it."
    ),
    "http2_hello": (
        "Granian reads and writes frames in Rust, in another thread than Python's."
        " Here header blocks that come again are looked up, but frames, streams and"
        " windows are Python's work."
    ),
    "http2_mixed_download": (
        "Granian cuts the content into frames and encrypts it in Rust. djserve does so"
        " in Python, a bounded turn at a time, for which the small requests between are"
        " answered sooner."
    ),
    "http2_mixed_download_p99": _SLOWEST,
    "http2_mixed_download_memory": _ALLOCATOR,
    "http2_mixed_upload_p99": _SLOWEST,
    "http2_mixed_upload_memory": _ALLOCATOR,
    "download": (
        "One connection that takes whatever it gets is a matter of memory, and rounds"
        " differ much. After each 256 KiB djserve lets other connections on, whom such"
        " a client would keep waiting."
    ),
    "event_stream": (
        "Here each event is one call of the system, made at once. Granian hands events"
        " to another thread, which writes several of them in one call when a client"
        " gets more than it can be sent."
    ),
    "realistic_api": _THREADS,
    "realistic_post": _THREADS,
    "realistic_page_p99": _QUEUE,
    "realistic_account_p99": _QUEUE,
    "realistic_api_p99": _QUEUE,
    "realistic_post_p99": _QUEUE,
    "memory_upload": _ALLOCATOR,
    "memory_download": _ALLOCATOR,
    "start": (
        "What is left of a start is imports, for the greater part of Python's own"
        " modules (asyncio, logging, OpenSSL's bindings)."
    ),
    "start_django": (
        "Django's own import is the greater part under every server. `runasgi` is a"
        " command of the project, so Django's commands are loaded, too."
    ),
}
