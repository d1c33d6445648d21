"""Which files there are: folders are scanned once, requests look a path up in a dict.

What comes later (an upload, the next release's static files) is looked for when it is
asked for, and then is in the dict, too. Such a path has no ``..``, no empty and no
hidden name, no NUL, and passes no link on its way but one to a file of the same folder:
what the scan would have left out is not there.

What was found may change while it is served: ``tick`` makes each file be asked for its
inode, size and time again at its next use, at most once between two ticks.
"""

# Why an index, and not the file system
#
# A server of files is usually a function from a path to an open file, and most of its
# faults were in that function: ``..``, encoded slashes, NUL, trailing dots, links,
# names of devices. Here the folders are walked once, and a request is a look-up among
# the paths that were found: for nearly all there is no such function.
#
# A path that is missing below a folder's prefix may have come since: an upload has, and
# a hashed name that the new workers' pages hold while old ones still serve. It is put
# together with the folder's name only if each of its parts is a name that the walk
# would have taken. Most are of no file, which one ``stat`` tells; for the others, the
# real path of the file and of its folder have to be those that were put together. What
# is found is an entry like any other. A path that is asked for again and again without
# a file (all of an application's, if files are served at "/") is looked for eight times
# in a tick: more than one who waits for an upload would try, and few beside a thousand
# requests.
#
# The costs, and how they are bounded. Files that change are noticed. Each entry has the
# tick of its last look, and is compared with the file (inode, size and time of change)
# once in each tick, at its first use: a busy file costs one ``stat`` for each variant
# in a tick, an idle one nothing, and no watcher is needed. A file is described again as
# a whole, with its variants, its ETag and its fields, so no response mixes two states
# of it, and only if a scan would find it now: a link that leads out may have taken its
# place. A request for the application costs one comparison with the prefixes.
#
# Compressed variants are found with their file and belong to it. One that is older than
# its file is left out, since it would be the old content under a new ETag; a second is
# allowed for, since tools write them in any order and copies lose it. One that is not
# smaller is left out, since it would only cost the client time.
#
# ETags are made of time and size, and of the coding. They are strong (RFC 9110 section
# 8.8.1): the bytes of a variant are not those of the plain file, so theirs must differ.
# All workers give the same one, and all machines whose copies keep the times.
#
# Small files are kept in memory after their first use, up to CACHE_SIZE in a process.
# There is no eviction. The static files of a site fit or they do not; a cache that
# replaces entries under load would read files again just when there is no time for it.

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote, unquote_to_bytes

from djserve.dates import http_date
from djserve.files.media_types import FONTS, guess_content_type
from djserve.values import Values

logger = logging.getLogger("djserve.server")

Headers: TypeAlias = list[tuple[bytes, bytes]]

ENCODINGS = {".zst": b"zstd", ".zstd": b"zstd", ".br": b"br", ".gz": b"gzip"}
"""Suffixes of compressed variants and their content codings, the best ones first.

The second one is what ServeStatic writes.
"""

# On Windows a file has more names than a scan finds: short ones ("GIT~1" is ".git"),
# those of a stream, and those with dots and spaces at their end, which it drops.
_OTHER_NAME = re.compile(r"[\\:]|~[0-9]|[. ](?:/|$)")

CACHED_FILE_SIZE = 256 * 1024
"""Files up to here are kept in memory once they were read."""

CACHE_SIZE = 32 * 1024 * 1024
"""Bytes of files that a process keeps in memory."""

STALE_AFTER = 1_000_000_000
"""Nanoseconds by which a variant may be older than its file: writing them takes time
and copies lose the order."""

_A_YEAR = 365 * 24 * 3600

# To look for bytes in bytes costs an exception, which Python drops (benchmark:
# hello_heads).
_PERCENT = ord("%")

_LOOKS_PER_TICK = 8
"""How often a path without a file is looked for between two ticks.

If files are served at "/", each request of the application is for such a path.
"""

_MISSES_REMEMBERED = 1024
_LONGEST_MISS = 256


class Folder(Values, kw_only=True):
    """A folder's files, at paths below each of ``prefixes``.

    ``max_age`` is how many seconds clients may use a file without asking again.
    ``immutable`` has the names (relative, with slashes) of files that never change; it
    is asked again for a file that comes later.
    ``has_indexes`` serves ``index.html`` for the folder that it is in.
    ``has_variants`` takes ``a.css.gz`` for a variant of ``a.css``, and not for a file.
    """

    prefixes: tuple[str, ...]
    path: str
    max_age: int = 60
    immutable: Container[str] = frozenset()
    has_indexes: bool = False
    has_variants: bool = True


@dataclass(eq=False, slots=True)
class Representation:
    """A file's bytes in one content coding, with the fields that describe them.

    ``fields`` are those of a 200, ``not_modified`` those of a 304 (RFC 9110 15.4.5).
    """

    path: str
    inode: int
    size: int
    modified: int
    encoding: bytes
    etag: bytes
    last_modified: bytes
    fields: Headers = field(repr=False)
    not_modified: Headers = field(repr=False)
    content: bytes | None = field(default=None, repr=False)


@dataclass(eq=False, slots=True)
class File:
    """What is served at a path: the plain file first, then its variants.

    ``name`` is that below its folder, with slashes. ``location`` is set for the path of
    a folder without its slash: where it leads.
    """

    name: str
    path: str
    folder: Folder
    representations: tuple[Representation, ...] = ()
    location: bytes = b""
    checked: int = -1


class FileTable:
    """The files of several folders, by the decoded path of a request.

    If two folders have a file for one path, the first one's is served. Nothing in
    the folders of ``hidden`` is, wherever they lie.
    """

    def __init__(self, folders: Sequence[Folder], hidden: Sequence[str] = ()) -> None:
        self.folders = tuple(folders)
        self._hidden = tuple(os.path.realpath(path) for path in hidden)
        self._files: dict[bytes, File] = {}
        self._places: list[tuple[bytes, str, Folder]] = []
        self._prefixes: tuple[bytes, ...] = ()
        self._misses: dict[bytes, int] = {}
        self._tick = 0
        self._cached_size = 0
        self.skipped: list[str] = []
        self.closed: list[Folder] = []
        """Folders of which nothing is served: internal, or not open to this user."""
        for folder in folders:
            self._scan(folder)
        self._prefixes = tuple(prefix for prefix, _, _ in self._places)

    def __len__(self) -> int:
        return len({id(file) for file in self._files.values() if not file.location})

    def find(self, raw_path: bytes) -> File | None:
        """Return the file at a request's path, None if there is none."""
        if _PERCENT in raw_path:
            if b"%2f" in raw_path.lower():
                return None
            raw_path = unquote_to_bytes(raw_path)
        file = self._files.get(raw_path)
        if file is None:
            # Requests for the application come here as well: one comparison for them.
            if not raw_path.startswith(self._prefixes):
                return None
            misses = self._misses.get(raw_path, 0)
            if misses >= _LOOKS_PER_TICK:
                return None
            file = self._discover(raw_path)
            if file is None:
                self._remember_miss(raw_path, misses + 1)
                return None
        if file.checked != self._tick:
            self._check(file)
        return file if file.representations or file.location else None

    def tick(self) -> None:
        """Have each file looked at, or looked for, again before its next use."""
        self._tick += 1
        self._misses.clear()

    def keep(self, file: File, representation: Representation, content: bytes) -> None:
        """Keep a representation's content in memory, if there is room for it.

        Not again, and not for what the file was before: another response may have read
        it at the same time, or the file may have changed.
        """
        is_wanted = representation.content is None and (
            representation in file.representations
        )
        if is_wanted and self._cached_size + len(content) <= CACHE_SIZE:
            self._cached_size += len(content)
            representation.content = content

    def refresh(self, file: File) -> bool:
        """Describe a file that has changed; return whether it is still there.

        A link that leads out may have taken its place, or that of a folder around it.
        """
        for each in file.representations:
            if each.content is not None:
                self._cached_size -= len(each.content)
        file.representations = ()
        root = file.path[: -len(file.name)]
        return self._is_served(file.folder, root, file.name) and _describe(file)

    def _check(self, file: File) -> None:
        """Describe a file again if it has changed since it was looked at."""
        file.checked = self._tick
        if file.location:
            return
        try:
            is_current = bool(file.representations) and all(
                is_current_at(each, os.stat(each.path)) for each in file.representations
            )
        except OSError:
            is_current = False
        if not is_current:
            self.refresh(file)

    def _scan(self, folder: Folder) -> None:
        root = os.path.realpath(folder.path)
        if self._is_hidden(root):
            logger.warning("Files in %s are not served: it is internal", root)
            self.closed.append(folder)
            return
        if not os.access(root, os.X_OK):
            self.closed.append(folder)
        places = ((os.fsencode(prefix), root, folder) for prefix in folder.prefixes)
        self._places.extend(places)
        for path, name in self._walk(folder, root, root, ""):
            self._take(folder, path, name)

    def _take(self, folder: Folder, path: str, name: str) -> None:
        """Serve a file of ``folder``, and the folder that it is the index of."""
        file = File(name, path, folder)
        if not _describe(file):
            return
        file.checked = self._tick
        self._add(file, name)
        parent, _, last = name.rpartition("/")
        if folder.has_indexes and last == "index.html":
            if parent:
                location = _quote(parent.rpartition("/")[2] + "/")
                self._add(File(name, path, folder, location=location), parent)
                parent += "/"
            self._add(file, parent)

    def _discover(self, raw_path: bytes) -> File | None:
        """Serve what has come to a folder since its scan."""
        for prefix, root, folder in self._places:
            if not raw_path.startswith(prefix):
                continue
            name = os.fsdecode(raw_path.removeprefix(prefix))
            names = [name]
            if folder.has_indexes:
                names.append(os.path.join(name, "index.html"))
            for each in names:
                if self._is_served(folder, root, each):
                    self._take(folder, os.path.join(root, each), each)
                    return self._files.get(raw_path)
        return None

    def _remember_miss(self, raw_path: bytes, count: int) -> None:
        """Note how often a path was looked for; the names and sizes are a client's."""
        if len(raw_path) <= _LONGEST_MISS and (
            count > 1 or len(self._misses) < _MISSES_REMEMBERED
        ):
            self._misses[raw_path] = count

    def _is_served(self, folder: Folder, root: str, name: str) -> bool:
        """Return whether a scan of ``root`` would find a file of this name now.

        The name is a client's. Most are of no file, which one call of the system tells.
        """
        if not all(_is_visible(part) for part in name.split("/")) or "\0" in name:
            return False
        if os.sep != "/" and _OTHER_NAME.search(name):
            return False
        path = os.path.normpath(os.path.join(root, name))
        if _stat_regular(path) is None:
            return False
        parent, last = os.path.split(path)
        # A link to a folder is not followed: the scan leaves it out.
        if os.path.realpath(parent) != parent or not self._is_public(root, path):
            return False
        if self._is_in_hidden(root, parent):
            return False
        base, dot, suffix = last.rpartition(".")
        is_variant = folder.has_variants and dot + suffix in ENCODINGS
        return not (is_variant and os.path.lexists(os.path.join(parent, base)))

    def _add(self, file: File, name: str) -> None:
        """Serve a file at a name below each of its folder's prefixes."""
        for prefix in file.folder.prefixes:
            self._files.setdefault(os.fsencode(prefix + name), file)

    def _is_public(self, root: str, path: str) -> bool:
        """Return whether what a path, or link, leads to may be served below a root."""
        path = os.path.realpath(path)
        inside = path.startswith(os.path.join(root, ""))
        return inside and not self._is_hidden(path)

    def _is_hidden(self, path: str) -> bool:
        return any(f"{path}/".startswith(f"{hidden}/") for hidden in self._hidden)

    def _is_in_hidden(self, root: str, path: str) -> bool:
        """Return whether a folder is a hidden one, or in one, whatever it is called.

        Some file systems find a name in any case, and in any form of its accents.
        """
        while self._hidden and len(path) > len(root):
            for hidden in self._hidden:
                if os.path.exists(hidden) and os.path.samefile(path, hidden):
                    return True
            path = os.path.dirname(path)
        return False

    def _walk(
        self, folder: Folder, root: str, path: str, name: str
    ) -> Iterator[tuple[str, str]]:
        """Yield the path of each file to be served, and its name below the root."""
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            text = "Files in %s are not served: %s"
            if os.access(path, os.X_OK):
                text = "Files in %s are served by name only, as it cannot be listed: %s"
            logger.warning(text, path, error.strerror)
            return
        names = {entry.name for entry in entries if folder.has_variants}
        for entry in entries:
            if not _is_visible(entry.name):
                continue
            below = f"{name}/{entry.name}" if name else entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:
                # A link to itself, or through a folder that is closed to this user.
                self.skipped.append(entry.path)
                continue
            if entry.is_symlink() and not self._is_public(root, entry.path):
                self.skipped.append(entry.path)
            elif is_folder:
                # A link to a folder around it would have no end.
                if entry.is_symlink():
                    self.skipped.append(entry.path)
                elif entry.path not in self._hidden:
                    yield from self._walk(folder, root, entry.path, below)
            elif is_file and not _is_variant(entry.name, names):
                yield entry.path, below


def is_current_at(representation: Representation, status: os.stat_result) -> bool:
    """Return whether a file is still the one that was described.

    Another file may have taken its place with the same size and time, or a link to one.
    """
    return (
        status.st_mtime_ns == representation.modified
        and status.st_size == representation.size
        and status.st_ino == representation.inode
    )


def _is_visible(name: str) -> bool:
    """Return whether a file or folder of this name may be served; "" is none."""
    return name[:1] not in ("", ".") or name == ".well-known"


def _is_variant(name: str, names: set[str]) -> bool:
    base, dot, suffix = name.rpartition(".")
    return dot + suffix in ENCODINGS and base in names


def _describe(file: File) -> bool:
    """Look at a file and its variants; return whether there is one."""
    found = list(_find_representations(file.path, file.folder.has_variants))
    file.representations = ()
    if not found:
        return False
    shared = _shared_fields(file, has_variants=len(found) > 1)
    content_type = guess_content_type(file.path).encode("ascii")
    file.representations = tuple(
        represent(path, encoding, status, content_type, shared)
        for path, encoding, status in found
    )
    return True


def _find_representations(
    path: str, has_variants: bool
) -> Iterator[tuple[str, bytes, os.stat_result]]:
    plain = _stat_regular(path)
    if plain is None:
        return
    yield path, b"", plain
    for suffix, encoding in ENCODINGS.items() if has_variants else ():
        status = _stat_regular(path + suffix)
        if (
            status is not None
            and not os.path.islink(path + suffix)
            # A variant of what the file was before its last change.
            and status.st_mtime_ns + STALE_AFTER >= plain.st_mtime_ns
            and status.st_size < plain.st_size
        ):
            yield path + suffix, encoding, status


def _stat_regular(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _shared_fields(file: File, *, has_variants: bool) -> Headers:
    """Return the fields that the representations of a file have in common."""
    folder = file.folder
    if file.name in folder.immutable:
        cache_control = f"public, max-age={_A_YEAR}, immutable"
    else:
        cache_control = f"public, max-age={folder.max_age}"
    fields = [(b"cache-control", cache_control.encode("ascii"))]
    if has_variants:
        fields.append((b"vary", b"Accept-Encoding"))
    if os.path.splitext(file.name)[1].lower() in FONTS:
        # Fonts are the one kind of file that a page of another origin cannot use
        # without it (CSS Fonts 4, section 4.9).
        fields.append((b"access-control-allow-origin", b"*"))
    return fields


def represent(
    path: str,
    encoding: bytes,
    status: os.stat_result,
    content_type: bytes,
    shared: Headers,
) -> Representation:
    """Return a file's description, with the fields of its responses."""
    # Strong (RFC 9110 8.8.1): the bytes are the file's own, and codings have their own.
    etag = b'"%x-%x"' % (status.st_mtime_ns, status.st_size)
    if encoding:
        etag = etag[:-1] + b"-" + encoding + b'"'
    # RFC 9110 8.8.2.1: never later than the response, whatever the file's time is.
    modified = http_date(min(status.st_mtime, time.time()))
    not_modified = [(b"etag", etag), *shared]
    fields = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % status.st_size),
        (b"last-modified", modified),
        (b"accept-ranges", b"bytes"),
        (b"x-content-type-options", b"nosniff"),
        *not_modified,
    ]
    if encoding:
        fields.append((b"content-encoding", encoding))
    return Representation(
        path,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        encoding,
        etag,
        modified,
        fields,
        not_modified,
    )


def _quote(text: str) -> bytes:
    return quote(os.fsencode(text), safe="/").encode("ascii")
