"""Modules that are imported when they are first used."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

import djserve.postponed as module_under_test
from djserve.postponed import StandIn, after_import, postponed, postponed_call

HEAVY = """
VALUE = 1


class Made:
    def __init__(self, name):
        self.name = name
"""
USER = """
import heavy_part
from heavy_package import inner
from heavy_part import Made


def value():
    return heavy_part.VALUE
"""

TWISTED = """
import sys
import djserve.net.twisted.reactor
from twisted.internet import posixbase
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.posixbase import PosixReactorBase

assert "OpenSSL" not in sys.modules
kinds = {type(module).__name__ for module in sys.modules.values()}
assert "StandIn" not in kinds
# As if Twisted had been imported with all it imports.
assert IReactorSSL.implementedBy(PosixReactorBase)
from twisted.internet import ssl
from twisted.protocols import tls
from twisted.protocols.tls import TLSMemoryBIOFactory

assert "StandIn" not in (type(ssl).__name__, type(tls).__name__)
assert posixbase.tls.TLSMemoryBIOProtocol is tls.TLSMemoryBIOProtocol
assert posixbase.ssl.CertificateOptions is ssl.CertificateOptions
made = posixbase.tls.TLSMemoryBIOFactory(ssl.CertificateOptions(), True, None)
assert type(made) is TLSMemoryBIOFactory
"""


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have modules to import; give the folder that they are in."""
    (tmp_path / "heavy_part.py").write_text(HEAVY)
    (tmp_path / "heavy_package").mkdir()
    (tmp_path / "heavy_package" / "__init__.py").write_text("")
    (tmp_path / "heavy_package" / "inner.py").write_text("VALUE = 2\n")
    (tmp_path / "heavy_user.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module_under_test, "_awaited", {})
    for name in ("part", "package", "package.inner", "user"):
        # Set, so that what the test imports is taken back.
        monkeypatch.setitem(sys.modules, f"heavy_{name}", None)
        del sys.modules[f"heavy_{name}"]
    return tmp_path


NAMES = ("heavy_part:Made", "heavy_package", "heavy_package.inner")


def use() -> Any:
    with postponed(*NAMES):
        return import_module("heavy_user")


@pytest.mark.usefixtures("heavy")
def test_module_is_imported_when_something_of_it_is_used() -> None:
    user = use()

    assert not {"heavy_part", "heavy_package"} & sys.modules.keys()
    assert user.value() == 1
    assert type(sys.modules["heavy_part"]) is type(sys)
    assert user.inner.VALUE == 2


@pytest.mark.usefixtures("heavy")
def test_name_that_was_imported_makes_what_the_module_makes() -> None:
    made = use().Made("some")

    assert type(made) is import_module("heavy_part").Made
    assert made.name == "some"


@pytest.mark.usefixtures("heavy")
def test_module_that_is_imported_already_has_no_stand_in() -> None:
    heavy_part = import_module("heavy_part")

    assert use().Made is heavy_part.Made


@pytest.mark.usefixtures("heavy")
def test_module_that_is_used_at_once_is_imported_at_once() -> None:
    with postponed("heavy_part"):
        found = import_module("heavy_part").VALUE

        assert type(sys.modules["heavy_part"]) is type(sys)
    assert found == 1
    assert "heavy_part" in sys.modules


def import_one() -> Any:
    import heavy_part  # type: ignore[import-not-found]

    return heavy_part.Made


def import_name() -> Any:
    from heavy_part import Made

    return Made


def import_of_package() -> Any:
    import heavy_package.inner  # type: ignore[import-not-found]

    return heavy_package.inner


def import_other_of_package() -> Any:
    import heavy_package.other  # type: ignore[import-not-found]

    return heavy_package.inner, heavy_package.other


def import_two_from_package() -> Any:
    from heavy_package import inner, other

    return inner, other


@pytest.mark.parametrize(
    "use_it",
    [
        import_one,
        import_name,
        import_of_package,
        import_other_of_package,
        import_two_from_package,
    ],
)
def test_another_thread_gets_the_module_itself(
    heavy: Path, use_it: Callable[[], Any]
) -> None:
    (heavy / "heavy_package" / "__init__.py").write_text(
        "from heavy_package import inner, other\n"
    )
    (heavy / "heavy_package" / "other.py").write_text("VALUES = []\n")
    with ThreadPoolExecutor(1) as thread:
        with postponed(*NAMES):
            user: Any = import_module("heavy_user")
            found = thread.submit(use_it).result(60)
        again = use_it()

    # It was imported once.
    assert found == again
    assert user.value() == 1
    assert user.inner.VALUE == 2
    assert StandIn not in map(type, sys.modules.values())
    for name in {"heavy_package.other", "heavy_package.inner"} & sys.modules.keys():
        module: Any = sys.modules.pop(name)
        assert module.__spec__.loader is module.__loader__


@pytest.mark.usefixtures("heavy")
def test_stand_in_goes_although_the_import_fails() -> None:
    with pytest.raises(ModuleNotFoundError), postponed(*NAMES):
        import_module("heavy_nothing")

    assert not {"heavy_part", "heavy_package"} & sys.modules.keys()


@pytest.mark.usefixtures("heavy")
def test_reloader_sees_no_module_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DJANGO_AUTORELOAD_ENV, "true")
    with postponed(*NAMES):
        assert not {"heavy_part", "heavy_package"} & sys.modules.keys()
        user = import_module("heavy_user")

    assert {"heavy_part", "heavy_package"} <= sys.modules.keys()
    assert user.value() == 1


def test_module_that_does_not_exist_says_so_when_it_is_used() -> None:
    with pytest.raises(ModuleNotFoundError, match="heavy_nothing"):
        StandIn("heavy_nothing").name  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="heavy_nothing"):
        postponed_call("heavy_nothing", "name")()


@pytest.mark.usefixtures("heavy")
def test_what_the_module_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'heavy_part' has no attribute"):
        StandIn("heavy_part").missing  # noqa: B018


@pytest.mark.usefixtures("heavy")
def test_function_is_called_once_a_module_is_imported() -> None:
    seen: list[Any] = []
    after_import("heavy_part", lambda: seen.append(sys.modules["heavy_part"].VALUE))
    after_import("heavy_package.inner", lambda: seen.append("inner"))
    assert seen == []

    user: Any = import_module("heavy_user")

    assert sorted(map(str, seen)) == ["1", "inner"]
    import_module("heavy_part")
    after_import("heavy_part", lambda: seen.append("at once"))
    assert seen[2:] == ["at once"]
    # The module is as any other.
    spec: Any = user.heavy_part.__spec__
    assert spec.loader is user.heavy_part.__loader__
    assert type(spec.loader) is type(user.__spec__.loader)


@pytest.mark.usefixtures("heavy")
def test_import_raises_what_the_function_raises() -> None:
    after_import("heavy_part", lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        import_module("heavy_part")

    assert "heavy_part" not in sys.modules


@pytest.mark.usefixtures("heavy")
def test_function_that_fails_is_called_with_the_next_import() -> None:
    seen: list[int] = []

    def fail_once() -> None:
        seen.append(1)
        if len(seen) == 1:
            raise ImportError("not yet")

    after_import("heavy_part", fail_once)
    with pytest.raises(ImportError, match="not yet"):
        import_module("heavy_part")

    assert import_module("heavy_part").VALUE == 1
    assert len(seen) == 2
    del sys.modules["heavy_part"]
    import_module("heavy_part")
    assert len(seen) == 2


@pytest.mark.usefixtures("heavy")
def test_awaited_module_can_be_found_without_an_import() -> None:
    after_import("heavy_part", lambda: None)

    spec: Any = importlib.util.find_spec("heavy_part")

    assert "class Made" in spec.loader.get_source("heavy_part")
    assert not spec.loader.is_package("heavy_part")
    assert spec.loader.get_data(spec.origin).startswith(b"\nVALUE")
    import_module("heavy_part")


@pytest.mark.usefixtures("heavy")
def test_finder_of_the_old_kind_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    after_import("heavy_part", lambda: seen.append(1))
    sys.meta_path.sort(key=lambda finder: type(finder).__name__ != "_Finder")

    import_module("heavy_part")

    assert seen == [1]


def test_module_that_is_awaited_may_not_exist() -> None:
    after_import("heavy_nothing", lambda: None)

    with pytest.raises(ModuleNotFoundError, match="heavy_nothing"):
        import_module("heavy_nothing")


@pytest.mark.e2e
def test_twisted_has_all_that_it_has_without_us() -> None:
    subprocess.run([sys.executable, "-c", TWISTED], check=True, timeout=120)


def test_module_that_is_not_installed_is_missed_at_its_import() -> None:
    """As Autobahn does without click: it asks once, when it is imported itself."""
    with postponed("surely_not_installed", "surely_not_installed.part"):
        with pytest.raises(ModuleNotFoundError):
            import_module("surely_not_installed")
        assert "surely_not_installed.part" not in sys.modules
