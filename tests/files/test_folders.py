"""The setting FILES as folders, and what the start-up message says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from djserve.conf.parser import Flag, parse
from djserve.errors import ConfigError
from djserve.files import FileTable, Folder, open_table
from djserve.files.folders import describe_files


def test_mapping_and_flags_name_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    by_key = parse({"FILES": {"/media/": tmp_path}, "FILES_MAX_AGE": 7})
    by_flag = parse({"FILES": Flag("--files", [f"/media/={tmp_path}"])})

    table = open_table(by_key.files)
    assert table is not None
    assert table.find(b"/media/a.txt") is not None
    assert table.folders == (
        Folder(
            prefixes=("/media/",), path=str(tmp_path), max_age=7, has_variants=False
        ),
    )
    assert by_flag.files.files == by_key.files.files


def test_upload_takes_no_other_files_place_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "contract.pdf").write_bytes(b"x" * 100)
    (tmp_path / "contract.pdf.gz").write_bytes(b"another's")
    settings = {"FILES": {"/media/": tmp_path}}
    for more, count in ({}, 1), ({"FILES_VARIANTS": True}, 2):
        table = open_table(parse({**settings, **more}).files)
        assert table is not None
        file = table.find(b"/media/contract.pdf")
        assert file is not None
        assert len(file.representations) == count
        assert (table.find(b"/media/contract.pdf.gz") is None) == (count == 2)


@pytest.mark.parametrize(
    "text", ["media", "/media", "media/=.", "/media=.", "/media/=/no/such/folder"]
)
def test_wrong_mount_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"FILES.*a prefix and a folder as in"):
        parse({"FILES": [text]})


def test_without_folders_there_is_no_table() -> None:
    assert open_table(parse({}).files) is None
    assert describe_files(None, parse({}).files) == []


def test_start_up_message_names_folders_and_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    folder = Folder(prefixes=("/app/s/", "/s/"), path=str(root))

    lines = describe_files(FileTable([folder]), parse({}).files)
    assert lines[0] == f"Files of {root} are served at /app/s/ and /s/"
    assert lines[1].startswith("Not served: ")
    assert str(root / "link") in lines[1]


def test_start_up_message_leaves_out_what_is_not_served(tmp_path: Path) -> None:
    config = parse(
        {"FILES": {"/f/": tmp_path}, "FILES_INTERNAL": {"/private/": tmp_path}}
    )

    assert describe_files(open_table(config.files), config.files) == [
        f"Files of {tmp_path} are sent for X-Accel-Redirect: /private/..."
    ]


def test_internal_folders_are_named_and_not_public(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "a.txt").write_text("a")
    config = parse(
        {
            "FILES": {"/media/": tmp_path},
            "FILES_INTERNAL": {"/private/": private},
        }
    ).files

    table = open_table(config)
    assert table is not None
    assert table.find(b"/media/private/a.txt") is None
    assert describe_files(None, config) == [
        f"Files of {private} are sent for X-Accel-Redirect: /private/..."
    ]
