"""Django's static files, and the root path in front of them.

In production their folders become those that the server serves by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from django.apps import apps
from django.conf import settings
from django.urls import get_script_prefix, set_script_prefix

from djserve.files import Folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.conf.schema import FilesConfig
    from djserve.files import FileTable

_MIDDLEWARE = ("whitenoise.", "servestatic.")

_COMPLETED = ("STATIC_URL", "MEDIA_URL")
"""Settings that Django puts the script prefix in front of, if they are relative."""


def mount(root_path: str) -> None:
    """Have what is made of URLs outside of requests begin with the root path.

    ``django.setup`` does that for FORCE_SCRIPT_NAME, which comes first. Django keeps
    STATIC_URL as it was when it was first asked for: system checks and middleware do
    that before a request has brought its prefix, and pages would name style sheets
    outside of the root path. To be called when middleware has been made: WhiteNoise
    compares what it finds there with paths without the prefix.
    """
    if root_path and not settings.FORCE_SCRIPT_NAME:
        set_script_prefix(unquote(root_path))
        for name in _COMPLETED:
            settings.__dict__.pop(name, None)


def find_static_folders(config: FilesConfig, root_path: str) -> list[Folder]:
    """Return STATIC_ROOT at each prefix that requests for it may come with.

    Empty if STATIC is off, there is no such folder, or STATIC_URL leads to another
    host. A proxy may take the root path off before it asks for a file.
    """
    root = _find_root()
    if root is None or not _is_wanted(config):
        return []
    url = _with_slash(settings.STATIC_URL)
    prefixes = [url]
    for prefix in (root_path, get_script_prefix()):
        prefix = prefix.rstrip("/")
        if prefix and url.startswith(prefix + "/"):
            prefixes.append(url.removeprefix(prefix))
    return [
        Folder(
            prefixes=tuple(dict.fromkeys(prefixes)),
            path=root,
            max_age=config.static_max_age,
            immutable=_find_hashed_names(),
        )
    ]


def describe_static_files(config: FilesConfig) -> list[str]:
    """Return a line for the start-up message if djserve serves none, and why."""
    middleware = _find_middleware()
    is_auto = config.static == "auto"
    if is_auto and middleware is not None:
        if _find_root() is None:
            return []
        return [
            f"Static files: left to {middleware}; with STATIC set to 'on', djserve "
            "serves them without a thread, and the middleware can go"
        ]
    if config.static == "off" or (
        is_auto and not apps.is_installed("django.contrib.staticfiles")
    ):
        return []
    reason = _find_reason(is_auto)
    return [f"Static files: not served, {reason}"] if reason else []


def describe_exposure(files: FileTable | None) -> list[str]:
    """Return a line for each file of the project's that no client should read."""
    places = [] if files is None else files.folders
    return [
        f"Everyone may read {path} at {folder.prefixes[0]}..., for all of "
        f"{folder.path} is served: serve a folder that has nothing else in it"
        for folder in places
        for path in _find_private_files()
        if path.startswith(os.path.join(os.path.realpath(folder.path), ""))
    ]


def _find_private_files() -> list[str]:
    """Return where the settings are, with their secrets, and databases of SQLite."""
    module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", None) or "")
    paths = [getattr(module, "__file__", None)]
    paths += [
        each.get("NAME")
        for each in settings.DATABASES.values()
        if str(each.get("ENGINE")).endswith("sqlite3")
    ]
    found = (os.path.realpath(path) for path in paths if path)
    return [path for path in found if os.path.isfile(path)]


def _find_reason(is_auto: bool) -> str:
    """Return why there is nothing to serve, or nothing that could be needed."""
    if not _is_path(settings.STATIC_URL):
        # Another host has them: what most who set that want.
        return "" if is_auto else f"STATIC_URL is not a path: {settings.STATIC_URL!r}"
    root: Any = settings.STATIC_ROOT
    if not root:
        return "STATIC_ROOT is not set; manage.py collectstatic needs it, too"
    if not os.path.isdir(root):
        return f"there is no folder {root}; manage.py collectstatic makes it"
    try:
        is_empty = not os.listdir(root)
    except OSError as error:
        # Files are found by their names in a folder that may only be entered.
        return "" if os.access(root, os.X_OK) else f"{root}: {error.strerror}"
    if is_empty:
        return f"{root} is empty; manage.py collectstatic fills it"
    return ""


def _is_wanted(config: FilesConfig) -> bool:
    """Return whether STATIC has the server send them.

    What serves them already may add fields of the project's own, so "auto" leaves them
    to it.
    """
    if config.static == "auto":
        return _find_middleware() is None
    return config.static == "on"


def _find_root() -> str | None:
    """Return the folder, if there is one that a path of this site leads to."""
    root = settings.STATIC_ROOT
    if not root or not _is_path(settings.STATIC_URL) or not os.path.isdir(root):  # type: ignore[truthy-bool]
        return None
    return os.fspath(root)


def _is_path(url: str | None) -> bool:
    """Return whether a STATIC_URL leads to this site, and not to all of it.

    Django has put the script prefix in front of a relative one. "//" is a host.
    """
    return url is not None and url[:1] == "/" and url[:2] != "//" and url != "/"


def _find_middleware() -> str | None:
    """Return the name of a middleware that serves static files."""
    names = (name for name in settings.MIDDLEWARE if name.startswith(_MIDDLEWARE))
    return next(names, None)


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else url + "/"


def _find_hashed_names() -> Container[str]:
    """Return the names of static files that have the hash of their content in them."""
    if not apps.is_installed("django.contrib.staticfiles"):
        return ()
    from django.contrib.staticfiles.storage import staticfiles_storage

    storage: Any = staticfiles_storage
    # A storage of another kind has none; Django makes it at this access.
    names = getattr(storage, "hashed_files", None)
    return () if names is None else HashedNames(storage, names.values())


class HashedNames(Container[str]):
    """The hashed names that a storage's manifest has, and has had.

    It is read again for a name that is not among them, if it has changed since: by then
    ``collectstatic`` may have run for the next release.
    """

    def __init__(self, storage: Any, names: Iterable[str]) -> None:
        self._storage = storage
        self._names = set(names)
        self._state = self._find_state()

    def __contains__(self, name: object) -> bool:
        if name not in self._names:
            state = self._find_state()
            if state != self._state:
                self._read(state)
        return name in self._names

    def _read(self, state: object) -> None:
        try:
            found, _ = self._storage.load_manifest()
        except (OSError, ValueError):
            # It is being written, perhaps: the next look comes with the next name.
            return
        self._names.update(found.values())
        self._state = state

    def _find_state(self) -> object:
        """Return what differs if the manifest does; None if it is in no folder."""
        storage = self._storage
        try:
            status = os.stat(storage.manifest_storage.path(storage.manifest_name))
        except (AttributeError, NotImplementedError, OSError):
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
