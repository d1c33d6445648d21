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
        "Four fifths of the instructions are OpenSSL's, and more of that is its"
        " bookkeeping than cryptography, which is the same work for both. It drives the"
        " interpreter out of the caches, which takes three tenths of the time for a"
        " twelfth of the instructions. Granian has another library, in Rust."
    ),
    "access_log_cost": (
        "It is a share of a hello, which costs Daphne about ten times as much: a line"
        " of the same cost is a smaller part of it."
    ),
    "http2_hello": (
        "Granian does all in Rust but the scope and the application's task. Here"
        " frames, streams and windows are Python's work, though header blocks that come"
        " again are looked up; TLS is a small part."
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
        "Each piece of 256 KiB is one write of the application's own bytes under each"
        " server. After it djserve lets other connections on, so it asks once a piece"
        " what has come, where others write on."
    ),
    "event_stream": (
        "A `send` of Granian's queues bytes for a thread in Rust, which frames them"
        " and writes several events in one call when a client gets more than it can be"
        " sent. Here each is a coroutine, a message and a chunk in Python."
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
        "`runasgi` makes Django's system checks, which no other server does, and reads"
        " the options for all settings. The rest is Django's own import, under each"
        " server."
    ),
}
