"""A file's media type by its name, the same on every machine.

``mimetypes`` reads the system's tables, which differ between a developer's machine and
a slim container: a script served as text/plain is not run by any browser.
"""

from __future__ import annotations

from functools import cache

# What Python's own table lacks or has differently, as registered with IANA. Scripts by
# RFC 9239.
_ADDITIONS = {
    ".apk": "application/vnd.android.package-archive",
    ".avif": "image/avif",
    ".cjs": "text/javascript",
    ".eot": "application/vnd.ms-fontobject",
    ".flac": "audio/flac",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".jsonld": "application/ld+json",
    ".jxl": "image/jxl",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mkv": "video/matroska",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".rss": "application/rss+xml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
}

# Types of text beside text/*: without a charset, browsers guess one.
_TEXT = {
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/rss+xml",
    "application/xml",
    "image/svg+xml",
}

FONTS = frozenset({".eot", ".otf", ".ttf", ".woff", ".woff2"})


@cache
def _types() -> dict[str, str]:
    """Return the types by suffixes; imports what a server without files never needs."""
    import mimetypes

    types = mimetypes.MimeTypes(filenames=())
    for suffix, media_type in _ADDITIONS.items():
        types.add_type(media_type, suffix)
    return types.types_map[True]


def guess_content_type(name: str) -> str:
    """Return the Content-Type of a file; application/octet-stream if it is unknown."""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    # By the last suffix alone: "app.js.gz" is itself a compressed file.
    media_type = _types().get(suffix, "application/octet-stream")
    if media_type.startswith("text/") or media_type in _TEXT:
        return f"{media_type}; charset=utf-8"
    return media_type
