"""Message text: what it links to, whom it names, and the HTML it becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

_TOKEN = re.compile(
    r"(?P<url>\bhttps?://[^\s<>\"'`]+)|(?<![\w@./-])@(?P<name>[A-Za-z0-9_-]{1,150})",
    re.IGNORECASE,
)
_TRAILING = ".,;:!?*_~"


def mentioned_names(text: str) -> set[str]:
    """Return the names after an @, in lower case; whether they exist is not asked."""
    return {match["name"].lower() for match in _TOKEN.finditer(text) if match["name"]}


def links(text: str) -> list[str]:
    """Return the http and https links in order, each once."""
    found = (_trim_url(match["url"]) for match in _TOKEN.finditer(text) if match["url"])
    return list(dict.fromkeys(url for url in found if _is_safe(url)))


def render(text: str, mentioned: Mapping[str, int]) -> SafeString:
    """Turn text into HTML: all of it escaped, links and mentions marked up.

    ``mentioned`` maps names in lower case to user ids; other names stay plain text.
    """
    pieces: list[str] = []
    end = 0
    for match in _TOKEN.finditer(text):
        token, markup = _markup(match, mentioned)
        if markup is None:
            continue
        pieces.append(format_html("{}", text[end : match.start()]))
        pieces.append(markup)
        end = match.start() + len(token)
    pieces.append(format_html("{}", text[end:]))
    # Every piece went through format_html.
    return mark_safe("".join(pieces))


def _markup(
    match: re.Match[str], mentioned: Mapping[str, int]
) -> tuple[str, SafeString | None]:
    if match["url"]:
        url = _trim_url(match["url"])
        return url, _link(url) if _is_safe(url) else None
    user_id = mentioned.get(match["name"].lower())
    if user_id is None:
        return match[0], None
    mention = '<span class="mention" data-user="{}">{}</span>'
    return match[0], format_html(mention, user_id, match[0])


def _link(url: str) -> SafeString:
    # noopener keeps the opened page from steering this one, noreferrer keeps the
    # room's address to ourselves.
    return format_html(
        '<a href="{0}" target="_blank" rel="noopener noreferrer nofollow ugc">{0}</a>',
        url,
    )


def _trim_url(url: str) -> str:
    """Leave a sentence's punctuation out, and a bracket that the URL did not open."""
    while url:
        last = url[-1]
        unopened = last == ")" and url.count(")") > url.count("(")
        if last not in _TRAILING and not unopened:
            break
        url = url[:-1]
    return url


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
