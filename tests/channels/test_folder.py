from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from djserve.channels.folder import (
    TEST_FOLDER,
    LayerFolder,
    default_folder,
    find_folder,
    is_trusted,
)
from djserve.channels.register import OwnRegister


@pytest.fixture
def place(folder: str) -> LayerFolder:
    return LayerFolder(find_folder(folder, "asgi"))


def show(place: LayerFolder, name: str) -> OwnRegister:
    """Be a process in the folder."""
    place.make()
    return OwnRegister(place.register_of(name), os.geteuid())


def test_folder_is_the_owners_alone(place: LayerFolder) -> None:
    assert place.make() == os.geteuid()
    assert stat.S_IMODE(os.stat(place.path).st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_folder_that_others_may_enter_is_refused(place: LayerFolder, mode: int) -> None:
    place.make()
    os.chmod(place.path, mode)

    for method in (place.make, place.look):
        with pytest.raises(ImproperlyConfigured, match=f"{mode:04o}.*0700"):
            method()


def test_link_in_the_place_of_the_folder_is_refused(
    place: LayerFolder, folder: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    os.symlink(tmp_path, place.path)

    with pytest.raises(ImproperlyConfigured, match="is not a folder"):
        place.make()


def test_folder_of_another_user_is_refused(
    place: LayerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.make()
    owner = os.stat(place.path).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    with pytest.raises(ImproperlyConfigured, match=f"user {owner}.* is user 4711"):
        place.look()


def test_path_that_is_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="too long"):
        LayerFolder("/tmp/" + 90 * "x")


def test_change_within_a_tick_of_the_clock_is_seen(place: LayerFolder) -> None:
    registers = []
    for name in ("a", "b", "c"):
        registers.append(show(place, name))
        place.look()
        assert name in place.names
    for register in registers:
        register.close()


def test_process_is_there_with_both_its_files(place: LayerFolder) -> None:
    place.make()
    Path(place.place_of("one")).touch()
    assert not place.has("one")
    Path(place.register_of("one")).touch()
    assert place.has("one")
    os.unlink(place.place_of("one"))
    assert not place.has("one")


def test_folder_is_read_only_when_it_has_changed(place: LayerFolder) -> None:
    place.make()
    os.utime(place.path, (0, 0))

    assert place.look()
    assert not place.look()
    os.utime(place.path, (9, 9))
    assert place.look()


def test_what_is_left_of_killed_processes_is_cleaned(place: LayerFolder) -> None:
    alive, dead = show(place, "alive"), show(place, "dead")
    dead.close()
    Path(place.place_of("dead")).touch()
    unfinished = place.new(place.place_of("killed"))
    Path(unfinished).touch()
    os.utime(unfinished, (0, 0))
    place.look()
    place.clean()

    assert os.listdir(place.path) == ["alive.map"]
    alive.close()


def test_members_with_plain_names_are_there_until_they_leave_or_expire(
    place: LayerFolder,
) -> None:
    for channel in ("stays", "leaves", "expires"):
        place.add_member("group", channel)
    place.discard_member("group", "leaves")
    os.utime(f"{place.path}/=group=expires", (0, 0))
    place.look()

    assert list(place.current_members("group", 60)) == ["stays"]
    place.clear_members()
    assert os.listdir(place.path) == []


def test_folder_that_does_not_exist_is_empty(place: LayerFolder) -> None:
    place.look()

    assert place.names == frozenset()
    assert not os.path.exists(place.path)


def test_test_run_has_a_folder_of_its_own_and_gives_it_to_its_processes() -> None:
    assert default_folder() == default_folder() == os.environ[TEST_FOLDER]


def test_sites_meet_in_different_folders(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("django.core.mail.outbox")
    folders = {default_folder(), default_folder()}
    assert len(folders) == 1
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "another")
    folders.add(default_folder())
    settings.SECRET_KEY = "another"
    folders.add(default_folder())

    assert len(folders) == 3
    assert "another" not in "".join(folders)


def test_peer_of_the_folders_owner_is_trusted() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert is_trusted(one, os.geteuid())


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="not told here")
def test_peer_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr("djserve.channels.folder._ROOT", 4712)
    with one, other:
        assert not is_trusted(one, 4713)


def test_socket_that_has_no_peer_is_not_trusted() -> None:
    one, other = socket.socketpair()
    other.close()
    one.close()

    assert not is_trusted(one, os.geteuid())
