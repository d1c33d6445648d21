"""A format of one's own to the function that makes the access log's lines.

The format is read once; a line is one ``%`` of a template with what the fields give.
Whatever a peer or an application has a say in is escaped, so that it can end no line.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from djserve.conf.access_format import read_format
from djserve.instrumentation.events import escape, request_target
from djserve.instrumentation.json_lines import format_time
from djserve.instrumentation.notes import find_user, response_headers, view_name
from djserve.instrumentation.request_id import find_request_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.access_format import Atom
    from djserve.instrumentation.access_line import LineFormat
    from djserve.instrumentation.events import RequestRecord
    from djserve.interfaces import Headers

    Write = Callable[[RequestRecord, str, str], str]
    """A record, its method and the date to a field's text."""

_NOTED = frozenset({"response_header", "user", "user_id", "view"})
"""What is known of a request only if notes of it are taken."""

_VERSIONS = {0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}

# What a server's context may choose (net.tls); RFC 8446, RFC 5289, RFC 7905.
_CIPHERS = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256",
    0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
    0xC02F: "ECDHE-RSA-AES128-GCM-SHA256",
    0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
    0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305",
    0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
}


def compile_format(text: str) -> LineFormat:
    """Return what makes a line of a record. Raises ValueError for a wrong format."""
    template, writers = "", []
    for atom in read_format(text):
        if atom.field:
            template += "%s"
            writers.append(_writer(atom))
        else:
            template += escape_text(atom.argument).replace("%", "%%")
    template += "\n"
    fields = tuple(writers)

    def format_line(record: RequestRecord, method: str, date: str) -> str:
        return template % tuple([write(record, method, date) for write in fields])

    return format_line


def needs_notes(text: str) -> bool:
    """Return whether a format has a field that only notes of a request give."""
    return any(atom.field in _NOTED for atom in read_format(text))


def escape_text(text: str) -> str:
    """Return a format's own text in ASCII, quotes and tabs as they are."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _writer(atom: Atom) -> Write:
    if atom.field == "environ":
        value = escape(os.environ.get(atom.argument, "")) or "-"
        return lambda record, method, date: value
    if atom.field == "request_header":
        return partial(_request_header, atom.argument.lower().encode("ascii"))
    if atom.field == "response_header":
        return partial(_response_header, atom.argument.lower().encode("ascii"))
    if atom.field == "time" and atom.argument:
        return partial(_strftime, atom.argument)
    return _WRITERS[atom.field]


def _find(name: bytes, headers: Headers) -> str:
    """Return a field's value, several with commas (RFC 9110 section 5.3)."""
    values = [value for key, value in headers if key.lower() == name]
    return escape(b", ".join(values).decode("latin-1")) or "-"


def _request_header(name: bytes, record: RequestRecord, method: str, date: str) -> str:
    return _find(name, record.head.headers)


def _response_header(name: bytes, record: RequestRecord, method: str, date: str) -> str:
    return _find(name, response_headers(record))


def _strftime(text: str, record: RequestRecord, method: str, date: str) -> str:
    return escape(time.strftime(text, time.localtime()))


def _client(record: RequestRecord, method: str, date: str) -> str:
    return escape(record.client[0]) if record.client is not None else "-"


def _path(record: RequestRecord, method: str, date: str) -> str:
    return escape(record.head.raw_path.decode("latin-1"))


def _query(record: RequestRecord, method: str, date: str) -> str:
    return escape(record.head.query.decode("latin-1"))


def _search(record: RequestRecord, method: str, date: str) -> str:
    query = _query(record, method, date)
    return f"?{query}" if query else ""


def _target(record: RequestRecord, method: str, date: str) -> str:
    return request_target(record.head)


def _protocol(record: RequestRecord, method: str, date: str) -> str:
    # With two digits, as in the other formats.
    version = record.head.http_version
    return f"HTTP/{version}.0" if version in ("2", "3") else f"HTTP/{escape(version)}"


def _request(record: RequestRecord, method: str, date: str) -> str:
    target, protocol = request_target(record.head), _protocol(record, method, date)
    return f"{method} {target} {protocol}"


def _server_port(record: RequestRecord, method: str, date: str) -> str:
    server = record.scope.get("server") if record.scope is not None else None
    return str(server[1] or "-") if server else "-"


def _status(record: RequestRecord, method: str, date: str) -> str:
    return str(record.status or "-")


def _view(record: RequestRecord, method: str, date: str) -> str:
    return escape(view_name(record)) or "-"


def _user_id(record: RequestRecord, method: str, date: str) -> str:
    return escape(find_user(record)[0]) or "-"


def _user(record: RequestRecord, method: str, date: str) -> str:
    return escape(find_user(record)[1]) or "-"


def _request_id(record: RequestRecord, method: str, date: str) -> str:
    return find_request_id(record.head.headers) or "-"


def _tls(record: RequestRecord, key: str) -> object:
    if record.scope is None:
        return None
    return record.scope.get("extensions", {}).get("tls", {}).get(key)


def _tls_version(record: RequestRecord, method: str, date: str) -> str:
    number = _tls(record, "tls_version")
    return _VERSIONS.get(number, "-") if isinstance(number, int) else "-"


def _tls_cipher(record: RequestRecord, method: str, date: str) -> str:
    number = _tls(record, "cipher_suite")
    if not isinstance(number, int):
        return "-"
    return _CIPHERS.get(number) or f"0x{number:04x}"


def _tls_client(record: RequestRecord, method: str, date: str) -> str:
    return escape(str(_tls(record, "client_cert_name") or "")) or "-"


_WRITERS: dict[str, Write] = {
    "bytes": lambda record, method, date: str(record.size),
    "bytes_or_dash": lambda record, method, date: str(record.size or "-"),
    "client": _client,
    "date": lambda record, method, date: date,
    "host": partial(_request_header, b"host"),
    "method": lambda record, method, date: method,
    "microseconds": lambda record, method, date: f"{record.duration * 1e6:.0f}",
    "milliseconds": lambda record, method, date: f"{record.duration * 1e3:.0f}",
    "path": _path,
    "protocol": _protocol,
    "query": _query,
    "referer": partial(_request_header, b"referer"),
    "request": _request,
    "request_id": _request_id,
    "scheme": lambda record, method, date: escape(record.scheme),
    "search": _search,
    "seconds": lambda record, method, date: f"{record.duration:.6f}",
    "server_port": _server_port,
    "status": _status,
    "target": _target,
    "time": lambda record, method, date: format_time(time.time()),
    "tls_cipher": _tls_cipher,
    "tls_client": _tls_client,
    "tls_version": _tls_version,
    "trace_id": lambda record, method, date: record.trace_id or "-",
    "user": _user,
    "user_agent": partial(_request_header, b"user-agent"),
    "user_id": _user_id,
    "view": _view,
    "whole_seconds": lambda record, method, date: str(int(record.duration)),
    "worker": lambda record, method, date: str(os.getpid()),
}
