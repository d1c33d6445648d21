"""A format of the access log's lines, read into its atoms.

Three spellings mean the same fields: Apache's (``%h``, ``%{Referer}i``), gunicorn's
(``%(h)s``, ``%({referer}i)s``) and plain names in braces (``{client}``,
``{request_header:referer}``). What a field is written as is decided where lines are
made (``instrumentation.access_format``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from djserve.conf.suggestions import suggest
from djserve.postponed import pattern

NAMED_FORMATS = ("common", "combined", "json")

FIELDS = frozenset(
    {
        "bytes",
        "bytes_or_dash",
        "client",
        "date",
        "environ",
        "host",
        "method",
        "microseconds",
        "milliseconds",
        "path",
        "protocol",
        "query",
        "referer",
        "request",
        "request_header",
        "request_id",
        "response_header",
        "scheme",
        "search",
        "seconds",
        "server_port",
        "status",
        "target",
        "time",
        "tls_cipher",
        "tls_client",
        "tls_version",
        "trace_id",
        "user",
        "user_agent",
        "user_id",
        "view",
        "whole_seconds",
        "worker",
    }
)
"""The names that may stand in braces."""

WITH_ARGUMENT = frozenset({"environ", "request_header", "response_header"})
"""Those that need something after a colon; ``time`` may have it."""

# Atoms without an argument, in terms of fields. The two differ: "%a" is the client's
# address to Apache, the User-Agent to gunicorn.
_SHARED = {
    "h": "{client}",
    "l": "-",
    "u": "{user}",
    "t": "[{date}]",
    "r": "{request}",
    "m": "{method}",
    "U": "{path}",
    "H": "{protocol}",
    "s": "{status}",
    "B": "{bytes}",
    "b": "{bytes_or_dash}",
    "T": "{whole_seconds}",
    "D": "{microseconds}",
}
_APACHE = {
    **_SHARED,
    "a": "{client}",
    "q": "{search}",
    "p": "{server_port}",
    "P": "{worker}",
    "v": "{host}",
    "V": "{host}",
    "L": "{request_id}",
}
_GUNICORN = {
    **_SHARED,
    "a": "{user_agent}",
    "f": "{referer}",
    "q": "{query}",
    "p": "<{worker}>",
    "L": "{seconds}",
    "M": "{milliseconds}",
}
_HEADERS = {"i": "request_header", "o": "response_header", "e": "environ"}
_UNITS = {"s": "whole_seconds", "ms": "milliseconds", "us": "microseconds"}
_TLS = {"SSL_PROTOCOL": "tls_version", "SSL_CIPHER": "tls_cipher"}

_ATOM = pattern(
    r"""
      (?P<escape> %% | \{\{ | \}\} )
    | %\( (?P<gunicorn> [A-Za-z] ) \)[sd]
    | %\( \{ (?P<gunicorn_argument> [^{}]* ) \} (?P<gunicorn_kind> [ioe] ) \)s
    | % [<>]? \{ (?P<argument> [^{}]* ) \} (?P<kind> [A-Za-z] )
    | % [<>]? (?P<apache> [A-Za-z] )
    | \{ (?P<field> [^{}]* ) \}
    | (?P<wrong> % \( [^()]* \)? [a-zA-Z]? | % [0-9,!]* [<>]? (\{[^{}]*\}?)? [A-Za-z]?
        | [{}] )
    """,
    re.VERBOSE,
)

# RFC 9110 section 5.6.2.
_TOKEN = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Atom(NamedTuple):
    """A field of ``FIELDS`` with its argument; or plain text, under the name ""."""

    field: str
    argument: str = ""


def read_format(text: str) -> list[Atom]:
    """Return the atoms of a format that is none of ``NAMED_FORMATS``.

    Raises ValueError, which names the first atom that is not known.
    """
    if not text.replace("\t", "").isprintable():
        raise ValueError("it has a line break or another control character")
    atoms: list[Atom] = []
    position = 0
    for match in _ATOM.finditer(text):
        _add_text(atoms, text[position : match.start()])
        position = match.end()
        for atom in _read_atom(match):
            if atom.field:
                atoms.append(atom)
            else:
                _add_text(atoms, atom.argument)
    _add_text(atoms, text[position:])
    if not any(atom.field for atom in atoms):
        raise ValueError(f"it has no atom{suggest([text], NAMED_FORMATS)}")
    return atoms


def _add_text(atoms: list[Atom], text: str) -> None:
    if not text:
        return
    if atoms and not atoms[-1].field:
        text = atoms.pop().argument + text
    atoms.append(Atom("", text))


def _read_atom(match: re.Match[str]) -> list[Atom]:
    whole, kind = match.group(), match.lastgroup
    if kind == "escape":
        return [Atom("", whole[0])]
    if kind == "gunicorn":
        return _expand(_GUNICORN, match["gunicorn"], whole)
    if kind == "apache":
        return _expand(_APACHE, match["apache"], whole)
    if kind == "gunicorn_kind":
        name = _HEADERS[match["gunicorn_kind"]]
        return [_check(Atom(name, match["gunicorn_argument"]), whole)]
    if kind == "kind":
        return [_check(_read_argument(match["argument"], match["kind"], whole), whole)]
    if kind == "field":
        name, _, argument = match["field"].partition(":")
        return [_check(Atom(name, argument), whole)]
    raise ValueError(f"unknown atom {whole!r}")


def _expand(table: dict[str, str], letter: str, whole: str) -> list[Atom]:
    if letter not in table:
        raise ValueError(f"unknown atom {whole!r}")
    return [
        Atom(field) if field else Atom("", text)
        for text, field in re.findall(r"([^{}]+)|\{(\w+)\}", table[letter])
    ]


def _read_argument(argument: str, kind: str, whole: str) -> Atom:
    if kind in _HEADERS:
        return Atom(_HEADERS[kind], argument)
    if kind == "t":
        return Atom("time", argument)
    if kind == "T" and argument in _UNITS:
        return Atom(_UNITS[argument])
    if kind == "x" and argument in _TLS:
        return Atom(_TLS[argument])
    raise ValueError(f"unknown atom {whole!r}")


def _check(atom: Atom, whole: str) -> Atom:
    field, argument = atom
    if field not in FIELDS:
        raise ValueError(f"unknown atom {whole!r}{suggest([field], FIELDS)}")
    if field in WITH_ARGUMENT and not _TOKEN.fullmatch(argument):
        raise ValueError(f"{whole!r} names no header or variable")
    if argument and field == "time" and "%" not in argument:
        raise ValueError(f"{whole!r} has no format of strftime")
    if argument and field not in WITH_ARGUMENT and field != "time":
        raise ValueError(f"{whole!r}: {{{field}}} takes nothing after it")
    return atom
