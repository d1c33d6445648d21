"""The setting FILES as folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.files.table import FileTable, Folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.conf.schema import FilesConfig


def open_table(config: FilesConfig, folders: Sequence[Folder] = ()) -> FileTable | None:
    """Scan ``folders`` and those of the setting; None if there are none at all."""
    found = [*folders, *read_folders(config)]
    if not found:
        return None
    return FileTable(found, [path for _, path in read_internal(config)])


def describe_files(files: FileTable | None, config: FilesConfig) -> list[str]:
    """Return lines for the start-up message: each folder, and what it leaves out."""
    return [*_describe_table(files), *_describe_internal(config)]


def _describe_table(files: FileTable | None) -> list[str]:
    if files is None:
        return []
    lines = [
        f"Files of {folder.path} are served at {' and '.join(folder.prefixes)}"
        for folder in files.folders
        if folder not in files.closed
    ]
    if files.skipped:
        lines.append(
            f"Not served: {len(files.skipped)} symbolic links that lead out of their "
            f"folder, to another folder or nowhere, as {files.skipped[0]}"
        )
    return lines


def _describe_internal(config: FilesConfig) -> list[str]:
    return [
        f"Files of {path} are sent for X-Accel-Redirect: {prefix}..."
        for prefix, path in read_internal(config)
    ]


def read_internal(config: FilesConfig) -> list[tuple[str, str]]:
    """Return the prefixes and folders that FILES_INTERNAL names."""
    found = [text.partition("=") for text in config.files_internal]
    return [(prefix, path) for prefix, _, path in found]


def read_folders(config: FilesConfig) -> list[Folder]:
    """Return the folders that FILES names."""
    folders = []
    for text in config.files:
        prefix, _, path = text.partition("=")
        folders.append(
            Folder(
                prefixes=(prefix,),
                path=path,
                max_age=config.files_max_age,
                has_indexes=config.files_index,
                has_variants=config.files_variants,
            )
        )
    return folders
