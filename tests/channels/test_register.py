from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.channels.register import (
    ENTRIES,
    Groups,
    OwnRegister,
    Register,
    State,
    is_abandoned,
    slot_of,
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "register")


@pytest.fixture
def own(path: str) -> Iterator[OwnRegister]:
    register = OwnRegister(path, os.geteuid())
    yield register
    register.close()


@pytest.fixture
def seen(own: OwnRegister, path: str) -> Iterator[Register]:
    """The register as a peer sees it."""
    register = Register(path)
    yield register
    register.close()


def test_peers_see_a_heartbeat(own: OwnRegister, seen: Register) -> None:
    assert not seen.is_attended(1.0)
    own.beat(5.0)
    assert seen.is_attended(4.0)
    assert not seen.is_attended(5.0)


def test_register_is_told_from_another_in_its_place(
    own: OwnRegister, seen: Register, path: str
) -> None:
    assert seen.is_at(path)
    os.unlink(path)
    assert not seen.is_at(path)
    other = OwnRegister(path, os.geteuid())
    assert not seen.is_at(path)
    other.close()


def test_slot_is_shown_until_the_last_of_its_groups_is_gone(
    own: OwnRegister, seen: Register
) -> None:
    slot = slot_of("room")
    for _ in range(2):
        own.add_group("room")
    own.discard_group("room")
    assert seen.has_slot(slot)
    own.discard_group("room")
    assert not seen.has_slot(slot)


def test_state_of_a_channel_is_seen_under_its_name_alone(
    own: OwnRegister, seen: Register
) -> None:
    assert own.set_state("mail", State.WAITING)
    assert seen.state("mail") == State.WAITING
    assert seen.state("post") == State.NONE
    assert own.set_state("mail", State.FULL)
    assert seen.state("mail") == State.FULL


def test_room_of_channels_that_have_ended_is_used_again(own: OwnRegister) -> None:
    for number in range(4 * ENTRIES):
        assert own.set_state(f"channel.{number}", State.FULL)
        assert own.set_state(f"channel.{number}", State.NONE)


def test_channel_without_room_is_not_shown(own: OwnRegister) -> None:
    shown = [own.set_state(f"c{n}", State.FULL) for n in range(ENTRIES + 1)]

    assert not all(shown)
    # What cannot be shown need not be taken back either.
    assert own.set_state(f"c{shown.index(False)}", State.NONE)


def test_register_of_a_process_that_has_ended_is_abandoned(path: str) -> None:
    assert is_abandoned(path)
    register = OwnRegister(path, os.geteuid())
    assert not is_abandoned(path)
    register.close()
    assert is_abandoned(path)


def test_file_of_another_size_is_no_register(path: str) -> None:
    Path(path).write_bytes(b"short")

    with pytest.raises(OSError, match="another size"):
        Register(path)


def test_link_is_not_followed(own: OwnRegister, path: str) -> None:
    os.symlink(path, path + ".link")

    with pytest.raises(OSError):
        Register(path + ".link")
    assert not is_abandoned(path + ".link")


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
