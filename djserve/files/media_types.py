"""A file's media type by its name, the same on every machine.

``mimetypes`` reads the system's tables, which differ between a developer's machine and
a slim container: a script served as text/plain is not run by any browser.
"""

from __future__ import annotations

from functools import cache

_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."

# What Python's own table lacks or has differently, as registered with IANA. Scripts by
# RFC 9239.
_ADDITIONS = {
    ".3gp": "video/3gpp",
    ".7z": "application/x-7z-compressed",
    ".apk": "application/vnd.android.package-archive",
    ".atom": "application/atom+xml",
    ".avi": "video/x-msvideo",
    ".avif": "image/avif",
    ".bz2": "application/x-bzip2",
    ".cjs": "text/javascript",
    ".docx": _OFFICE + "wordprocessingml.document",
    ".eot": "application/vnd.ms-fontobject",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".flv": "video/x-flv",
    ".geojson": "application/geo+json",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".gpx": "application/gpx+xml",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".ico": "image/x-icon",
    ".ics": "text/calendar",
    ".jar": "application/java-archive",
    ".jfif": "image/jpeg",
    ".js": "text/javascript",
    ".jsonld": "application/ld+json",
    ".jxl": "image/jxl",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".kmz": "application/vnd.google-earth.kmz",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".m4v": "video/mp4",
    ".map": "application/json",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mid": "audio/midi",
    ".midi": "audio/midi",
    ".mjs": "text/javascript",
    ".mkv": "video/matroska",
    ".mpd": "application/dash+xml",
    ".odg": _OPEN_DOCUMENT + "graphics",
    ".odp": _OPEN_DOCUMENT + "presentation",
    ".ods": _OPEN_DOCUMENT + "spreadsheet",
    ".odt": _OPEN_DOCUMENT + "text",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".parquet": "application/vnd.apache.parquet",
    ".pptx": _OFFICE + "presentationml.presentation",
    ".psd": "image/vnd.adobe.photoshop",
    ".rar": "application/vnd.rar",
    ".rss": "application/rss+xml",
    ".rst": "text/x-rst",
    ".rtf": "application/rtf",
    ".stl": "model/stl",
    ".tgz": "application/gzip",
    ".toml": "application/toml",
    ".ts": "video/mp2t",
    ".ttc": "font/collection",
    ".ttf": "font/ttf",
    ".ttl": "text/turtle",
    ".usdz": "model/vnd.usdz+zip",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".wmv": "video/x-ms-wmv",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xhtml": "application/xhtml+xml",
    ".xlsx": _OFFICE + "spreadsheetml.sheet",
    ".xslt": "application/xslt+xml",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}

# Types of text beside text/*: without a charset, browsers guess one.
_TEXT = {
    "application/atom+xml",
    "application/geo+json",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/rss+xml",
    "application/toml",
    "application/xml",
    "application/yaml",
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
