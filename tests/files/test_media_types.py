"""Names of files to media types."""

from __future__ import annotations

import pytest

from djserve.files.media_types import guess_content_type


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("app.5d41402abc4b.JS", "text/javascript; charset=utf-8"),
        ("site.css", "text/css; charset=utf-8"),
        ("index.html", "text/html; charset=utf-8"),
        ("logo.svg", "image/svg+xml; charset=utf-8"),
        ("data.json", "application/json; charset=utf-8"),
        ("app.js.map", "application/json; charset=utf-8"),
        ("site.webmanifest", "application/manifest+json; charset=utf-8"),
        ("lib.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.avif", "image/avif"),
        ("film.mp4", "video/mp4"),
        ("phone.3gp", "video/3gpp"),
        ("segment.ts", "video/mp2t"),
        ("paper.pdf", "application/pdf"),
        ("letter.odt", "application/vnd.oasis.opendocument.text"),
        ("calendar.ics", "text/calendar; charset=utf-8"),
        ("news.atom", "application/atom+xml; charset=utf-8"),
        ("notes.markdown", "text/markdown; charset=utf-8"),
        (
            "sheet.xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        ("site.tar.gz", "application/gzip"),
        ("LICENSE", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
    ],
)
def test_type_is_that_of_the_last_suffix(name: str, content_type: str) -> None:
    assert guess_content_type(name) == content_type
