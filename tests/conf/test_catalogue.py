from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from djserve.conf.catalogue import Setting, groups, settings_by_key
from djserve.conf.schema import ServerConfig
from djserve.conf.syntax import RULES

SETTINGS = [setting for group in groups() for setting in group.settings]


def test_groups_follow_the_configuration() -> None:
    fields = [field.name for field in dataclasses.fields(ServerConfig)]

    assert [group.name for group in groups()] == fields


def test_group_has_the_docstring_as_its_title() -> None:
    titles = {group.name: group.title for group in groups()}

    assert titles["lifecycle"] == "Start and stop"


def test_every_field_is_found_under_its_key() -> None:
    fields = {
        field.name.upper()
        for group in groups()
        for field in dataclasses.fields(group.make)
    }

    assert set(settings_by_key()) == fields
    assert len(SETTINGS) == len(fields)


def test_no_flag_belongs_to_two_settings() -> None:
    counted = Counter(flag for setting in SETTINGS for flag in setting.flags)

    assert [flag for flag, count in counted.items() if count > 1] == []


def test_flag_is_the_name_with_dashes() -> None:
    assert settings_by_key()["PID_FILE"].flags == ("--pid-file",)


def test_aliases_stand_beside_the_derived_flag() -> None:
    setting = settings_by_key()["REQUEST_TIMEOUT"]

    assert setting.flag == "--request-timeout"
    assert setting.flags == (
        "-t",
        "--request-timeout",
        "--http-timeout",
        "--http_timeout",
    )


@pytest.mark.parametrize(
    ("key", "kind", "optional"),
    [
        ("PROXY_HEADERS", bool, False),
        ("BACKLOG", int, False),
        ("HEADER_TIMEOUT", float, False),
        ("REQUEST_TIMEOUT", float, True),
        ("CERTFILE", str, True),
        ("BIND", tuple, False),
    ],
)
def test_kind_is_read_from_the_annotation(key: str, kind: type, optional: bool) -> None:
    setting = settings_by_key()[key]

    assert (setting.kind, setting.optional) == (kind, optional)


def test_every_setting_has_help() -> None:
    assert [each.key for each in SETTINGS if not each.help.endswith((".", ")"))] == []


def test_every_rule_named_exists() -> None:
    named = {setting.syntax for setting in SETTINGS}

    assert named - {""} <= RULES.keys()


def test_every_default_is_of_its_kind() -> None:
    strange = [each.key for each in SETTINGS if not has_fitting_default(each)]

    assert strange == []


def has_fitting_default(setting: Setting) -> bool:
    if setting.default is None:
        return setting.optional
    return type(setting.default) is setting.kind
