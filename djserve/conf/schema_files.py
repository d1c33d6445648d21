"""The settings of the files that the server sends, part of ``conf.schema``."""

from __future__ import annotations

from dataclasses import dataclass

from djserve.conf.declaration import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesConfig:
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
        "Seconds that clients may use a static file without asking again. Files with "
        "the hash of ManifestStaticFilesStorage in their name are never asked for "
        "again.",
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
        "Seconds that clients may use a file of FILES without asking again.",
        minimum=0,
    )
    files_internal: tuple[str, ...] = setting(
        (),
        "Folders whose files are sent where the application names them in "
        "X-Accel-Redirect, and not otherwise: /prefix/=/path/to/folder. In settings.py "
        "a mapping of prefixes to folders. May be given several times.",
        metavar="PREFIX=FOLDER",
        syntax="internal-mount",
    )
    files_index: bool = setting(
        False, "Serve index.html for the path of its folder (FILES only)."
    )
