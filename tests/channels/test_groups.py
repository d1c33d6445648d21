from __future__ import annotations

from pathlib import Path

from djserve.channels.groups import Groups
from djserve.channels.register import OwnRegister, slot_of


def test_register_shows_the_groups_that_have_members(tmp_path: Path) -> None:
    register = OwnRegister(str(tmp_path / "own"), tmp_path.stat().st_uid)
    groups = Groups()
    groups.join("early", "a", 1.0)
    groups.show(register)
    groups.join("room", "a", 2.0)
    groups.join("room", "b", 3.0)
    groups.leave("room", "a")

    assert register.has_slot(slot_of("early"))
    assert register.has_slot(slot_of("room"))
    groups.leave("room", "b")
    assert not register.has_slot(slot_of("room"))
    assert groups == {"early": {"a": 1.0}}
    register.close()


def test_leaving_a_group_twice_or_never_having_joined_changes_nothing() -> None:
    groups = Groups()
    groups.join("room", "a", 1.0)
    groups.leave("room", "b")
    groups.leave("other", "a")

    assert groups == {"room": {"a": 1.0}}
    groups.leave_all()
    assert groups == {}
