"""Message text becomes safe HTML."""

from __future__ import annotations

import pytest

from demo_project.chat.text import links, mentioned_names, render


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "https://example.com/\"onmouseover='alert(1)'",
        "https://example.com/<script>",
    ],
)
def test_markup_is_escaped(text: str) -> None:
    html = render(text, {})

    assert "<script" not in html
    assert "<img" not in html
    assert '"onmouseover' not in html


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1)", "data:text/html,x", "https://", "file:///etc/passwd"],
)
def test_other_schemes_make_no_link(text: str) -> None:
    assert "<a" not in render(text, {})
    assert links(text) == []


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("see https://example.com/a.", "https://example.com/a"),
        ("(https://example.com/a)", "https://example.com/a"),
        ("https://example.com/a_(b)!", "https://example.com/a_(b)"),
        ("HTTPS://EXAMPLE.com/?q=1&r=2,", "HTTPS://EXAMPLE.com/?q=1&r=2"),
    ],
)
def test_punctuation_of_the_sentence_is_not_in_the_link(text: str, url: str) -> None:
    assert links(text) == [url]


def test_link_cannot_reach_back_to_its_page() -> None:
    html = render("https://example.com/?a=1&b=2 !", {})

    assert 'href="https://example.com/?a=1&amp;b=2"' in html
    assert 'rel="noopener noreferrer nofollow ugc"' in html
    assert html.endswith("</a> !")


def test_only_known_names_are_marked() -> None:
    html = render("@Ana and @nobody", {"ana": 7})

    assert '<span class="mention" data-user="7">@Ana</span> and @nobody' in html


def test_mail_address_mentions_nobody() -> None:
    assert mentioned_names("write to me@ben.example or /@chen") == set()


def test_names_are_found_in_lower_case() -> None:
    assert mentioned_names("@Ana: (@ben-2), @ANA") == {"ana", "ben-2"}


def test_bracketed_host_that_is_no_address_makes_no_link() -> None:
    assert "<a" not in render("http://[not-an-address]/", {})
