"""The settings of files: what the defaults promise, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from djserve.conf.parser import Flag, parse
from djserve.errors import ConfigError


def test_no_folder_is_served_unless_asked_for() -> None:
    config = parse({}).files

    assert config.files == ()
    assert config.files_internal == ()
    assert not config.files_index
    assert not config.files_variants


def test_internal_folders_are_named_as_public_ones_are(tmp_path: Path) -> None:
    by_key = parse({"FILES_INTERNAL": {"/private/": tmp_path}})
    flag = Flag("--files-internal", [f"/private/={tmp_path}"])

    assert by_key == parse({"FILES_INTERNAL": flag})
    assert by_key.files.files_internal == (f"/private/={tmp_path}",)


@pytest.mark.parametrize("prefix", ["/", "private/", "/private", ""])
def test_internal_prefix_is_a_part_of_the_site(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"FILES_INTERNAL.*a prefix and a folder"):
        parse({"FILES_INTERNAL": {prefix: tmp_path}})
