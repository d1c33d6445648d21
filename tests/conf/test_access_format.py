from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.conf.access_format import FIELDS, Atom, read_format
from djserve.conf.parser import parse
from djserve.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "atoms"),
    [
        ("%h", [Atom("client")]),
        ("%(h)s", [Atom("client")]),
        ("{client}", [Atom("client")]),
        ("%>s|%<s", [Atom("status"), Atom("", "|"), Atom("status")]),
        ("%t", [Atom("", "["), Atom("date"), Atom("", "]")]),
        ("%a", [Atom("client")]),
        ("%(a)s", [Atom("user_agent")]),
        ("%(D)d", [Atom("microseconds")]),
        ("%(p)s", [Atom("", "<"), Atom("worker"), Atom("", ">")]),
        ("%{X-Id}i", [Atom("request_header", "X-Id")]),
        ("%({x-id}i)s", [Atom("request_header", "x-id")]),
        ("{request_header:x-id}", [Atom("request_header", "x-id")]),
        ("%{Content-Type}o", [Atom("response_header", "Content-Type")]),
        ("%({Content-Type}o)s", [Atom("response_header", "Content-Type")]),
        ("%{HOME}e", [Atom("environ", "HOME")]),
        ("%{ms}T", [Atom("milliseconds")]),
        ("%{%H:%M}t", [Atom("time", "%H:%M")]),
        ("%{SSL_PROTOCOL}x", [Atom("tls_version")]),
        ("100%% {{}} %m", [Atom("", "100% {} "), Atom("method")]),
        ("%h%l%h", [Atom("client"), Atom("", "-"), Atom("client")]),
    ],
)
def test_three_spellings_mean_the_same_fields(text: str, atoms: list[Atom]) -> None:
    assert read_format(text) == atoms


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("%h %y", "'%y'"),
        ("%h %(y)s", "'%(y)s'"),
        ("%(h", "'%(h'"),
        ("%h %", "'%'"),
        ("%400,501{User-Agent}i", "'%400,501{User-Agent}i'"),
        ("%{User-Agent", "'%{User-Agent'"),
        ("%{}i", "'%{}i'"),
        ("%{a b}o", "'%{a b}o'"),
        ("%{x}z", "'%{x}z'"),
        ("%{days}T", "'%{days}T'"),
        ("%{usec}t", "'%{usec}t'"),
        ("%f", "'%f'"),
        ("{veiw}", "'{veiw}'; did you mean 'view'?"),
        ("{view:x}", "'{view:x}'"),
        ("{client", "'{'"),
        ("client}", "'}'"),
        ("{request_header}", "'{request_header}'"),
        ("combind", "no atom; did you mean 'combined'?"),
        ("", "no atom"),
        ("%h\n", "line break"),
        ("%h\x1b[2J", "control character"),
    ],
)
def test_wrong_atom_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        read_format(text)


def test_configuration_names_the_setting_and_the_atom() -> None:
    with pytest.raises(ConfigError, match=r"ACCESS_LOG_FORMAT.*unknown atom '%y'"):
        parse({"ACCESS_LOG_FORMAT": "%h %y"})


@given(st.text(alphabet="%(){}<>:hsito,04 "))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        atoms = read_format(text)
    except ValueError as error:
        assert str(error)
    else:
        assert all(atom.field in FIELDS or not atom.field for atom in atoms)


@pytest.mark.parametrize("path", ["healthz", "/a*b", "/a?b", "/a\n", ""])
def test_path_to_leave_out_is_checked(path: str) -> None:
    with pytest.raises(ConfigError, match="ACCESS_LOG_SKIP"):
        parse({"ACCESS_LOG_SKIP": [path]})
