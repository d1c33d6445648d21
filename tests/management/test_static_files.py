"""Which folders Django's settings have the server serve, and the root path in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.urls import get_script_prefix, set_script_prefix

from djserve.conf.parser import parse
from djserve.conf.schema import FilesConfig
from djserve.files import FileTable, Folder
from djserve.management.static_files import (
    describe_exposure,
    describe_static_files,
    find_static_folders,
    mount,
)

MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"

AUTO = FilesConfig()
ON = FilesConfig(static="on")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.css").write_text("body {}")
    return tmp_path


def prefixes(root: object, url: str = "/static/", **config: Any) -> list[str]:
    with override_settings(STATIC_ROOT=root, STATIC_URL=url, MIDDLEWARE=[]):
        parsed = parse(config)
        folders = find_static_folders(parsed.files, parsed.proxy.root_path)
        return [prefix for folder in folders for prefix in folder.prefixes]


def test_static_root_is_served_at_static_url(root: Path) -> None:
    assert prefixes(root) == ["/static/"]
    assert prefixes(str(root), "/assets") == ["/assets/"]


def test_nothing_is_served_without_a_folder_or_a_path(root: Path) -> None:
    assert prefixes(None) == []
    assert prefixes("") == []
    assert prefixes(root / "none") == []
    assert prefixes(root, "https://cdn.example.com/static/") == []
    assert prefixes(root, "//cdn.example.com/static/") == []
    assert prefixes(root, "/") == []
    assert prefixes(root, STATIC="off") == []


def test_proxy_may_leave_the_root_path_on_or_take_it_off(root: Path) -> None:
    assert prefixes(root, "/app/static/", ROOT_PATH="/app") == [
        "/app/static/",
        "/static/",
    ]
    assert prefixes(root, "/application/", ROOT_PATH="/app") == ["/application/"]
    set_script_prefix("/app/")
    try:
        assert prefixes(root, "/app/s/") == ["/app/s/", "/s/"]
    finally:
        set_script_prefix("/")


@pytest.mark.parametrize(
    "middleware",
    ["whitenoise.middleware.WhiteNoiseMiddleware", "servestatic.ServeStaticMiddleware"],
)
def test_middleware_that_serves_them_goes_on_doing_so(
    root: Path, middleware: str
) -> None:
    given = {"STATIC_ROOT": root, "STATIC_URL": "/static/", "MIDDLEWARE": [middleware]}
    with override_settings(**given):
        assert find_static_folders(AUTO, "") == []
        assert middleware in describe_static_files(AUTO)[0]
        assert find_static_folders(ON, "") != []
        assert describe_static_files(ON) == []


def test_nothing_is_said_if_they_are_served(root: Path) -> None:
    with override_settings(STATIC_ROOT=root, STATIC_URL="/static/", MIDDLEWARE=[]):
        assert describe_static_files(AUTO) == []


@pytest.mark.parametrize(
    ("given", "config", "line"),
    [
        ({"STATIC_ROOT": None}, AUTO, "STATIC_ROOT is not set"),
        ({"STATIC_ROOT": "/no/such"}, AUTO, "there is no folder /no/such"),
        ({"STATIC_ROOT": 3000}, AUTO, "there is no folder 3000"),
        ({"STATIC_ROOT": "/no/such"}, ON, "there is no folder /no/such"),
        ({"STATIC_URL": "/"}, ON, "STATIC_URL is not a path: '/'"),
        ({"STATIC_URL": "https://cdn.test/"}, ON, "not a path: 'https://cdn.test/'"),
        ({"STATIC_URL": "https://cdn.test/"}, AUTO, ""),
        ({"STATIC_ROOT": None}, FilesConfig(static="off"), ""),
        ({"STATIC_ROOT": None, "INSTALLED_APPS": []}, AUTO, ""),
    ],
)
def test_it_is_said_why_none_are_served(
    root: Path, given: dict[str, Any], config: FilesConfig, line: str
) -> None:
    base = {"STATIC_ROOT": root, "STATIC_URL": "/static/", "MIDDLEWARE": []}
    base["INSTALLED_APPS"] = ["django.contrib.staticfiles"]
    with override_settings(**base | given):
        said = describe_static_files(config)

    assert len(said) == bool(line)
    assert all(
        each.startswith("Static files: not served, ") and line in each for each in said
    )


def test_empty_folder_is_said_to_be_so(root: Path) -> None:
    (root / "a.css").unlink()
    with override_settings(STATIC_ROOT=root, STATIC_URL="/static/", MIDDLEWARE=[]):
        (said,) = describe_static_files(ON)

    assert said.endswith(f"{root} is empty; manage.py collectstatic fills it")


def test_settings_and_databases_that_are_served_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, database = tmp_path / "public", tmp_path / "db.sqlite3"
    public.mkdir()
    database.write_text("")
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    monkeypatch.setitem(settings.DATABASES, "default", engine)
    code = sys.modules[settings.SETTINGS_MODULE].__file__
    assert code is not None

    wide = FileTable([Folder(prefixes=("/all/",), path=str(tmp_path))])
    (line,) = describe_exposure(wide)
    assert line.startswith(f"Everyone may read {database.resolve()} at /all/")
    project = FileTable([Folder(prefixes=("/c/",), path=os.path.dirname(code))])
    (line,) = describe_exposure(project)
    assert os.path.realpath(code) in line
    narrow = FileTable([Folder(prefixes=("/p/",), path=str(public))])
    assert describe_exposure(narrow) == describe_exposure(None) == []


def test_hashed_names_are_kept_for_good(root: Path) -> None:
    (root / "staticfiles.json").write_text(
        '{"version": "1.1", "paths": {"a.css": "a.5d41402abc4b.css"}, "hash": "x"}'
    )
    settings = {
        "STATIC_ROOT": root,
        "STATIC_URL": "/static/",
        "MIDDLEWARE": [],
        "INSTALLED_APPS": ["django.contrib.staticfiles"],
        "STORAGES": {"staticfiles": {"BACKEND": MANIFEST}},
    }
    with override_settings(**settings):
        (folder,) = find_static_folders(FilesConfig(static_max_age=5), "")
        assert "a.5d41402abc4b.css" in folder.immutable
        assert "a.css" not in folder.immutable

    assert folder.max_age == 5


def test_hashed_name_that_comes_later_is_kept_for_good(root: Path) -> None:
    settings = {
        "STATIC_ROOT": root,
        "STATIC_URL": "/static/",
        "MIDDLEWARE": [],
        "INSTALLED_APPS": ["django.contrib.staticfiles"],
        "STORAGES": {"staticfiles": {"BACKEND": MANIFEST}},
    }
    manifest = root / "staticfiles.json"
    text = '{"version": "1.1", "paths": {"a.css": "a.%s.css"}, "hash": "x"}'
    first, second = "5d41402abc4b", "7d793037a076"
    with override_settings(**settings):
        table = FileTable(find_static_folders(FilesConfig(static_max_age=5), ""))
        found = {}
        for number in (first, second):
            (root / f"a.{number}.css").write_text("p {}")
            manifest.write_text(text % number)
            found[number] = table.find(b"/static/a.%s.css" % number.encode())
        # Half a manifest says nothing, and what it said before holds.
        manifest.write_text("{")
        (root / "late.css").write_text("p {}")
        late = table.find(b"/static/late.css")

    assert late is not None
    assert (b"cache-control", b"public, max-age=5") in late.representations[0].fields
    for file in found.values():
        assert file is not None
        assert (
            b"cache-control",
            b"public, max-age=31536000, immutable",
        ) in file.representations[0].fields


@pytest.fixture
def _prefix() -> Iterator[None]:
    before = get_script_prefix()
    with override_settings(STATIC_URL="static/", MEDIA_URL="media/"):
        yield
    set_script_prefix(before)


@pytest.mark.usefixtures("_prefix")
@pytest.mark.parametrize("root_path", ["/shop", "/shop/", "/s%68op"])
def test_relative_urls_begin_with_the_root_path(root_path: str) -> None:
    # As a system check asks for them.
    assert (settings.STATIC_URL, settings.MEDIA_URL) == ("/static/", "/media/")

    mount(root_path)

    assert (settings.STATIC_URL, settings.MEDIA_URL) == (
        "/shop/static/",
        "/shop/media/",
    )
    assert get_script_prefix() == "/shop/"


@pytest.mark.usefixtures("_prefix")
@override_settings(STATIC_URL="/assets/", MEDIA_URL="https://cdn.example.com/")
def test_other_urls_stay() -> None:
    mount("/shop")

    assert settings.STATIC_URL == "/assets/"
    assert settings.MEDIA_URL == "https://cdn.example.com/"


@pytest.mark.usefixtures("_prefix")
@pytest.mark.parametrize(("root_path", "name"), [("", None), ("/shop", "/own")])
def test_nothing_is_done_without_need(root_path: str, name: str | None) -> None:
    with override_settings(FORCE_SCRIPT_NAME=name):
        mount(root_path)

    assert get_script_prefix() == "/"
    assert settings.STATIC_URL == "/static/"
