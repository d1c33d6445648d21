"""The settings of what the server sends by itself, part of ``conf.schema``."""

from __future__ import annotations

from djserve.conf.declaration import setting
from djserve.values import Values


class FilesConfig(Values, kw_only=True):
    """Files"""

    static: str = setting(
        "auto",
        "Serve the files in Django's STATIC_ROOT at STATIC_URL: on, off or auto (on "
        "unless WhiteNoise's or ServeStatic's middleware does). STATIC_URL has to be "
        "a path, and the folder has to exist.",
        choices=("auto", "on", "off"),
    )
    static_max_age: int = setting(
        60,
        "Seconds for which clients may cache a static file without revalidating it. "
        "Files with the hash of ManifestStaticFilesStorage in their name are never "
        "revalidated.",
        minimum=0,
    )
    files: tuple[str, ...] = setting(
        (),
        "Folders whose files are served to everyone: /prefix/=/path/to/folder. In "
        "settings.py a mapping of prefixes to folders. May be given several times.",
        metavar="PREFIX=FOLDER",
        syntax="mount",
    )
    files_max_age: int = setting(
        60,
        "Seconds for which clients may cache a file from FILES without revalidating "
        "it.",
        minimum=0,
    )
    files_internal: tuple[str, ...] = setting(
        (),
        "Folders whose files are sent only if the application names them in "
        "X-Accel-Redirect: /prefix/=/path/to/folder. In settings.py a mapping of "
        "prefixes to folders. May be given several times.",
        metavar="PREFIX=FOLDER",
        syntax="internal-mount",
    )
    files_index: bool = setting(
        False, "Serve index.html for the path of its folder (FILES only)."
    )
    files_variants: bool = setting(
        False,
        "Send name.zst, name.br or name.gz in place of a file called name to clients "
        "that accept the coding, as for static files (FILES only). Not for folders of "
        "uploads: users could replace each other's files.",
    )


class CompressionConfig(Values, kw_only=True):
    """Compression"""

    compression: bool = setting(
        False,
        "Compress the application's responses for clients that accept it. Read about "
        "BREACH first (docs/guides/compression.md).",
    )
    compression_codings: tuple[str, ...] = setting(
        ("zstd", "br", "gzip"),
        "Content codings, the preferred one first. zstd and br need packages: "
        "djserve[compression].",
        metavar="CODING",
        syntax="content-coding",
    )
    compression_types: tuple[str, ...] = setting(
        (
            "text/*",
            "application/*+json",
            "application/*+xml",
            "application/javascript",
            "application/json",
            "application/wasm",
            "application/x-ndjson",
            "application/xml",
            "image/svg+xml",
        ),
        "Media types that are compressed; * stands for any text.",
        metavar="TYPE",
        syntax="media-type",
    )
    compression_minimum_size: int = setting(
        500,
        "Bytes of content below which a response of known length is not compressed.",
        minimum=0,
        unit="bytes",
    )
