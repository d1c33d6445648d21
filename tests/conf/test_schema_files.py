"""The settings of files: what they take, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djserve.conf.parser import parse
from djserve.errors import ConfigError


def test_folders_are_given_as_a_mapping_or_a_list(tmp_path: Path) -> None:
    mapping = parse({"FILES": {"/media/": tmp_path}})
    listed = parse({"FILES": [f"/media/={tmp_path}"]})

    assert mapping.files == listed.files


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("STATIC", True, "one of 'auto', 'on', 'off'"),
        ("STATIC_MAX_AGE", -1, "a whole number from 0 up"),
        ("FILES", "/media/=.", "a list of strings"),
        ("FILES", {"/media/": "/no/such/folder"}, "'/no/such/folder' is not a folder"),
        ("FILES_INDEX", "yes", "True or False"),
    ],
)
def test_wrong_value_is_named(key: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse({key: value})

    assert key in str(failure.value)
    assert expected in str(failure.value)
