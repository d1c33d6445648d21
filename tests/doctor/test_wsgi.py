"""What the rules of WSGI servers share."""

from __future__ import annotations

import pytest

from djserve.doctor.rules import Draft, Kind
from djserve.doctor.wsgi import body_size, header_size, module_of, mount_folder


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("shop.wsgi", "shop.wsgi"),
        ("shop.wsgi:application", "shop.wsgi:application"),
        ("shop/wsgi.py", "shop.wsgi"),
        ("./shop/wsgi.py", "shop.wsgi"),
        ("/srv/site/shop/wsgi.py", "shop.wsgi"),
        ("wsgi.py", "wsgi"),
        ("/srv/shop.wsgi", "srv.shop"),
        ("shop/asgi.py:app", "shop.asgi:app"),
        ("", ""),
    ],
)
def test_script_is_a_module(name: str, module: str) -> None:
    assert module_of(name) == module


@pytest.mark.parametrize(
    ("prefix", "folder", "words"),
    [
        ("/static", "/srv/s", ["--files", "/static/=/srv/s"]),
        ("static/", "s", ["--files", "/static/=s"]),
        ("/", "s", ["--files", "/=s"]),
        ("", "s", []),
        ("/static", "", []),
    ],
)
def test_folder_is_served_below_its_prefix(
    prefix: str, folder: str, words: list[str]
) -> None:
    draft = Draft()
    outcome = mount_folder(draft, prefix, folder)

    assert draft.words == words
    assert outcome.kind is (Kind.TRANSLATED if words else Kind.MISSING)


def test_limit_below_ours_is_not_needed() -> None:
    draft = Draft()

    assert header_size(draft, "4096").kind is Kind.NEEDLESS
    assert body_size(draft, "0").kind is Kind.NEEDLESS
    assert draft.words == []
    header_size(draft, "131072")
    body_size(draft, "10")
    assert draft.words == ["--header-size-limit", "131072", "--body-size-limit", "10"]
