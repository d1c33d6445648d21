"""Which files a scan finds, at which paths, and what is told of them."""

from __future__ import annotations

import gzip
import os
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from djserve.files import table as module
from djserve.files.table import FileTable, Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "css").mkdir(parents=True)
    (root / "css" / "site.css").write_text("body {}" * 100)
    (root / "a b.txt").write_text("blank")
    (root / "é.txt").write_text("letter")
    return root


def scan(root: Path, prefix: str = "/static/", **options: object) -> FileTable:
    return FileTable([Folder(prefixes=(prefix,), path=str(root), **options)])  # type: ignore[arg-type]


def fields_of(table: FileTable, path: bytes) -> dict[bytes, bytes]:
    file = table.find(path)
    assert file is not None
    return dict(file.representations[0].fields)


@pytest.mark.parametrize(
    "path",
    [
        b"/static/css/site.css",
        b"/static/css/site%2Ecss",
        b"/static/a%20b.txt",
        b"/static/%C3%A9.txt",
        "/static/é.txt".encode(),
    ],
)
def test_file_is_found_however_its_path_is_encoded(root: Path, path: bytes) -> None:
    assert scan(root).find(path) is not None


@pytest.mark.parametrize(
    "path",
    [
        b"/static/",
        b"/static/css",
        b"/static/css/",
        b"/static/../root/css/site.css",
        b"/static/%2e%2e/root/css/site.css",
        b"/static/css%2fsite.css",
        b"/static/css%2Fsite.css",
        b"/static/css%5Csite.css",
        b"/static/css/site.css%00",
        b"/static//css/site.css",
        b"/static/css/./site.css",
        b"/static/CSS/site.css",
        b"/css/site.css",
        b"/static%252Fcss/site.css",
        b"*",
        b"",
    ],
)
def test_any_other_path_finds_nothing(root: Path, path: bytes) -> None:
    assert scan(root).find(path) is None


def test_dotfiles_are_not_served_but_for_well_known(root: Path) -> None:
    (root / ".env").write_text("SECRET")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("")
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_text("Contact:")
    table = scan(root, "/")

    assert table.find(b"/.env") is None
    assert table.find(b"/.git/config") is None
    assert table.find(b"/.well-known/security.txt") is not None


def test_links_that_lead_out_are_left_out_and_named(root: Path) -> None:
    secret = root.parent / "secret.txt"
    secret.write_text("secret")
    (root / "out.txt").symlink_to(secret)
    (root / "up").symlink_to(root.parent)
    (root / "in.css").symlink_to(root / "css" / "site.css")
    table = scan(root)

    assert table.find(b"/static/out.txt") is None
    assert table.find(b"/static/up/secret.txt") is None
    assert table.find(b"/static/in.css") is not None
    assert table.skipped == [str(root / "out.txt"), str(root / "up")]


def test_links_that_lead_around_in_circles_are_left_out_and_named(root: Path) -> None:
    (root / "itself").symlink_to("itself")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    table = scan(root)

    assert table.find(b"/static/css/site.css") is not None
    assert table.skipped == [str(root / name) for name in ("itself", "one", "two")]


def test_folder_that_is_a_link_itself_is_served(root: Path) -> None:
    (root.parent / "current").symlink_to(root)

    assert scan(root.parent / "current").find(b"/static/css/site.css") is not None


def test_pipes_are_no_files(root: Path) -> None:
    os.mkfifo(root / "pipe")

    assert scan(root).find(b"/static/pipe") is None


def test_first_folder_with_a_path_serves_it(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a b.txt").write_text("another")
    (other / "new.txt").write_text("new")
    folders = [Folder(prefixes=("/f/",), path=str(path)) for path in (root, other)]
    table = FileTable(folders)
    found = table.find(b"/f/a%20b.txt")

    assert found is not None
    assert found.path == str(root / "a b.txt")
    assert table.find(b"/f/new.txt") is not None


def test_folder_that_is_not_there_is_said_and_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(scan(tmp_path / "none")) == 0
    assert "none are not served: No such file or directory" in caplog.text


def test_folder_that_cannot_be_listed_is_served_by_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    # Nothing is forbidden to root, as whom these tests may run.
    root.chmod(0o311)
    monkeypatch.setattr(os, "scandir", refuse)
    table = scan(root)
    assert table.closed == []
    assert "served by name only, as it cannot be listed" in caplog.text
    assert table.find(b"/static/css/site.css") is not None
    root.chmod(0o700)


def test_folder_that_cannot_be_entered_is_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.chmod(0)
    if os.geteuid() == 0:
        # Nothing is forbidden to root.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    table = scan(root)
    root.chmod(0o700)

    assert table.closed == list(table.folders)


def test_fields_say_how_long_a_file_may_be_used(root: Path) -> None:
    immutable = frozenset({"css/site.css"})
    table = scan(root, max_age=5, immutable=immutable)

    css = fields_of(table, b"/static/css/site.css")
    text = fields_of(table, b"/static/a%20b.txt")
    assert css[b"cache-control"] == b"public, max-age=31536000, immutable"
    assert text[b"cache-control"] == b"public, max-age=5"
    assert css[b"content-type"] == b"text/css; charset=utf-8"
    assert css[b"content-length"] == b"700"
    assert css[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize("later", [3600, 400_000_000])
def test_file_from_the_future_was_changed_at_most_now(root: Path, later: int) -> None:
    now = time.time()
    os.utime(root / "css" / "site.css", (now + later, now + later))
    changed = fields_of(scan(root), b"/static/css/site.css")[b"last-modified"]

    assert parsedate_to_datetime(changed.decode()).timestamp() <= time.time()


def test_fonts_may_be_used_by_pages_of_other_origins(root: Path) -> None:
    (root / "a.WOFF2").write_bytes(b"font")
    table = scan(root)

    assert fields_of(table, b"/static/a.WOFF2")[b"access-control-allow-origin"] == b"*"
    css = fields_of(table, b"/static/css/site.css")
    assert b"access-control-allow-origin" not in css


def compress(path: Path, suffix: str = ".gz", age: int = 0) -> None:
    variant = path.with_name(path.name + suffix)
    variant.write_bytes(gzip.compress(path.read_bytes()))
    now = path.stat().st_mtime
    os.utime(variant, (now - age, now - age))


def test_variants_are_codings_of_their_file_and_no_files(root: Path) -> None:
    css = root / "css" / "site.css"
    for suffix in (".gz", ".br", ".zst"):
        compress(css, suffix)
    (root / "data.gz").write_bytes(gzip.compress(b"data"))
    table = scan(root)
    file = table.find(b"/static/css/site.css")

    assert file is not None
    codings = [each.encoding for each in file.representations]
    assert codings == [b"", b"zstd", b"br", b"gzip"]
    assert len({each.etag for each in file.representations}) == 4
    assert all((b"vary", b"Accept-Encoding") in r.fields for r in file.representations)
    assert table.find(b"/static/css/site.css.gz") is None
    assert table.find(b"/static/data.gz") is not None


def test_folder_without_variants_has_files_alone(root: Path) -> None:
    css = root / "css" / "site.css"
    table = scan(root, has_variants=False)
    compress(css)

    # What has come since, and what a scan finds.
    for each in (table, scan(root, has_variants=False)):
        for path in (css, css.with_name("site.css.gz")):
            file = each.find(b"/static/css/" + path.name.encode())
            assert file is not None
            assert [found.path for found in file.representations] == [str(path)]


def test_variant_of_what_a_file_was_before_is_not_used(root: Path) -> None:
    css = root / "css" / "site.css"
    compress(css, age=3600)
    file = scan(root).find(b"/static/css/site.css")

    assert file is not None
    assert len(file.representations) == 1


def test_variant_that_saves_nothing_is_not_used(root: Path) -> None:
    text = root / "a b.txt"
    compress(text)
    file = scan(root).find(b"/static/a%20b.txt")

    assert file is not None
    assert len(file.representations) == 1


def test_changed_file_is_described_anew_after_a_tick(root: Path) -> None:
    table = scan(root)
    before = table.find(b"/static/css/site.css")
    assert before is not None
    etag = before.representations[0].etag
    (root / "css" / "site.css").write_text("p {}")

    same = table.find(b"/static/css/site.css")
    assert same is not None
    assert same.representations[0].etag == etag
    table.tick()
    assert fields_of(table, b"/static/css/site.css")[b"content-length"] == b"4"


def test_file_that_goes_and_comes_back_is_served_again(root: Path) -> None:
    css = root / "css" / "site.css"
    table = scan(root)
    css.rename(root / "away")
    table.tick()
    assert table.find(b"/static/css/site.css") is None
    assert table.find(b"/static/css/site.css") is None

    (root / "away").rename(css)
    table.tick()
    assert table.find(b"/static/css/site.css") is not None


def test_file_that_comes_later_is_found_without_a_scan(root: Path) -> None:
    table = scan(root)
    assert table.find(b"/static/2026/an%20upload.png") is None
    (root / "2026").mkdir()
    (root / "2026" / "an upload.png").write_bytes(b"pixels")
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_text("contact")
    (root / "in.css").symlink_to(root / "css" / "site.css")

    fields = fields_of(table, b"/static/2026/an%20upload.png")
    assert fields[b"content-length"] == b"6"
    assert table.find(b"/static/2026/an upload.png") is not None
    assert table.find(b"/static/.well-known/security.txt") is not None
    assert table.find(b"/static/in.css") is not None
    (root / "2026" / "an upload.png").unlink()
    table.tick()
    assert table.find(b"/static/2026/an%20upload.png") is None


@pytest.mark.parametrize(
    "name",
    ["GIT~1/config", "ENV~1", "late.txt:stream", "late.txt.", "late.txt ", "late./a"],
)
def test_another_name_that_windows_has_for_a_file_is_none(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scan(root)
    monkeypatch.setattr("djserve.files.table.os.sep", "\\")
    for each in ("late~all.txt", name):
        (root / each).parent.mkdir(exist_ok=True)
        (root / each).write_text("text")

    assert table.find(b"/static/late~all.txt") is not None
    assert table.find(b"/static/" + name.encode()) is None


@pytest.mark.parametrize("name", ["css/site.css", "a b.txt"])
def test_link_that_takes_a_files_place_is_not_followed_out(
    root: Path, name: str
) -> None:
    path, other = root / name, root.parent / "other"
    table = scan(root)
    asked = b"/static/" + name.replace(" ", "%20").encode()
    assert table.find(asked) is not None
    # With the same size and time, which are all that an ETag shows of a file.
    status = path.stat()
    other.write_bytes(b"x" * status.st_size)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.rename(root / "kept")
    path.symlink_to(other)
    table.tick()
    assert table.find(asked) is None

    path.unlink()
    path.symlink_to(root / "kept")
    table.tick()
    assert table.find(asked) is not None
    path.unlink()
    (root / "kept").rename(path)
    table.tick()
    assert table.find(asked) is not None


def test_link_that_takes_a_folders_place_is_not_followed(root: Path) -> None:
    table = scan(root)
    moved = root.parent / "moved"
    (root / "css").rename(moved)
    (root / "css").symlink_to(moved)
    (moved / "site.css").write_text("changed")
    table.tick()
    assert table.find(b"/static/css/site.css") is None

    (root / "css").unlink()
    moved.rename(root / "css")
    table.tick()
    assert table.find(b"/static/css/site.css") is not None


def test_link_that_takes_a_variants_place_is_not_followed(root: Path) -> None:
    compress(root / "css" / "site.css")
    table = scan(root)
    variant = root / "css" / "site.css.gz"
    other = root.parent / "other.gz"
    other.write_bytes(variant.read_bytes())
    variant.unlink()
    variant.symlink_to(other)
    table.tick()

    file = table.find(b"/static/css/site.css")
    assert file is not None
    assert [each.encoding for each in file.representations] == [b""]


def test_path_without_a_file_is_not_looked_for_all_the_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scan(root, "/")
    looks: list[str] = []
    stat_regular = module._stat_regular

    def look(path: str) -> os.stat_result | None:
        looks.append(path)
        return stat_regular(path)

    monkeypatch.setattr(module, "_stat_regular", look)
    for _ in range(100):
        assert table.find(b"/view/") is None
        assert table.find(b"/view") is None
    assert len(looks) == 8
    (root / "view").write_text("an upload")
    assert table.find(b"/view") is None
    table.tick()
    assert table.find(b"/view") is not None


def test_few_paths_without_a_file_are_remembered(root: Path) -> None:
    table = scan(root, "/")
    for number in range(3000):
        table.find(b"/%d" % number)
        table.find(b"/%d" % number + b"x" * 300)

    assert len(table._misses) == 1024
    assert max(map(len, table._misses)) <= 256
    table.tick()
    assert not table._misses


def test_what_a_scan_would_leave_out_is_not_found_later_either(root: Path) -> None:
    hidden = root / "hidden"
    hidden.mkdir()
    folder = Folder(prefixes=("/static/",), path=str(root))
    table = FileTable([folder], [str(hidden)])
    secret = root.parent / "secret.txt"
    secret.write_text("secret")
    (hidden / "secret.txt").write_text("secret")
    (root / ".env").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    (root / "out.txt").symlink_to(secret)
    (root / "up").symlink_to(root.parent)
    (root / "styles").symlink_to(root / "css")
    (root / "to_hidden.txt").symlink_to(hidden / "secret.txt")
    (root / "itself").symlink_to("itself")
    (root / "css" / "site.css.gz").write_bytes(b"variant")
    os.mkfifo(root / "pipe")

    for path in (
        *("hidden/secret.txt", ".env", ".git/config", "out.txt", "up/secret.txt"),
        *("styles/site.css", "to_hidden.txt", "itself", "css/site.css.gz", "pipe"),
        *("", "css", "css/", "../secret.txt", "css/../../secret.txt", "./.env"),
        *("css/../css/site.css", "css//site.css", "/css/site.css", f"{secret}"),
        *("%2e%2e/secret.txt", "..%2fsecret.txt", "css/site.css%00", "%00"),
        *("x" * 300, "x/" * 3000, "css/site.css/", "%FF%FE", "\\..\\secret.txt"),
    ):
        assert table.find(b"/static/" + path.encode()) is None, path
    assert table.find(b"/static") is None
    assert table.find(b"/staticcss/site.css") is None


def test_hidden_folder_is_so_by_each_of_its_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, other = root / "private", root / "PRIVATE"
    hidden.mkdir()
    folder = Folder(prefixes=("/f/",), path=str(root))
    table = FileTable([folder], [str(hidden)])
    other.mkdir()
    (other / "secret.txt").write_text("a")
    # As on a file system that finds a name in any case.
    is_same = os.path.samefile
    monkeypatch.setattr(
        os.path, "samefile", lambda a, b: is_same(a, b) or a.lower() == b.lower()
    )

    assert table.find(b"/f/PRIVATE/secret.txt") is None
    monkeypatch.undo()
    assert table.find(b"/f/PRIVATE/secret.txt") is not None


def test_index_that_comes_later_is_served_for_its_folder(root: Path) -> None:
    table = scan(root, "/site/", has_indexes=True)
    assert table.find(b"/site/") is None
    assert table.find(b"/site/deep") is None
    (root / "deep").mkdir()
    (root / "deep" / "index.html").write_text("deep")
    (root / "index.html").write_text("home")

    leads, deep, home = (table.find(b"/site/" + p) for p in (b"deep", b"deep/", b""))
    assert leads is not None
    assert leads.location == b"deep/"
    assert deep is not None
    assert deep.path == str(root / "deep" / "index.html")
    assert home is not None
    assert home.path == str(root / "index.html")
    assert table.find(b"/site/css/") is None


def test_index_is_served_for_its_folder(root: Path) -> None:
    (root / "index.html").write_text("home")
    (root / "a b").mkdir()
    (root / "a b" / "index.html").write_text("deep")
    table = scan(root, "/site/", has_indexes=True)

    home, deep = table.find(b"/site/"), table.find(b"/site/a%20b/")
    leads = table.find(b"/site/a%20b")
    assert home is not None
    assert home.path == str(root / "index.html")
    assert deep is not None
    assert deep.path == str(root / "a b" / "index.html")
    assert leads is not None
    assert leads.location == b"a%20b/"
    assert scan(root, "/site/").find(b"/site/") is None


def test_memory_for_contents_is_bounded_and_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 705)
    table = scan(root)
    css, text = table.find(b"/static/css/site.css"), table.find(b"/static/a%20b.txt")
    assert css is not None
    assert text is not None
    table.keep(css, css.representations[0], b"x" * 700)
    table.keep(text, text.representations[0], b"x" * 6)
    assert [each.representations[0].content for each in (css, text)] == [
        b"x" * 700,
        None,
    ]

    (root / "css" / "site.css").write_text("p {}")
    table.tick()
    assert table.find(b"/static/css/site.css") is css
    assert css.representations[0].content is None
    table.keep(text, text.representations[0], b"x" * 6)
    assert text.representations[0].content == b"x" * 6


def test_content_that_two_responses_have_read_counts_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 705)
    table = scan(root)
    css, text = table.find(b"/static/css/site.css"), table.find(b"/static/a%20b.txt")
    assert css is not None
    assert text is not None
    table.keep(css, css.representations[0], b"x" * 700)
    table.keep(css, css.representations[0], b"x" * 700)
    table.keep(text, text.representations[0], b"blank")

    assert text.representations[0].content == b"blank"


def test_content_of_what_a_file_was_before_is_not_kept(root: Path) -> None:
    table = scan(root)
    css = table.find(b"/static/css/site.css")
    assert css is not None
    (before,) = css.representations
    (root / "css" / "site.css").write_text("p {}")
    table.refresh(css)
    table.keep(css, before, b"x" * 700)

    assert before.content is None


def test_file_is_one_at_each_prefix_of_its_folder(root: Path) -> None:
    folder = Folder(prefixes=("/app/static/", "/static/"), path=str(root))
    table = FileTable([folder])
    found = table.find(b"/app/static/css/site.css")

    assert found is not None
    assert table.find(b"/static/css/site.css") is found
    assert len(table) == 3


def test_hidden_folder_is_in_no_table(tmp_path: Path) -> None:
    hidden = tmp_path / "private"
    hidden.mkdir()
    (hidden / "secret.txt").write_text("a")
    (tmp_path / "link.txt").symlink_to(hidden / "secret.txt")
    (tmp_path / "private.txt").write_text("b")
    folder = Folder(prefixes=("/f/",), path=str(tmp_path))
    inner = Folder(prefixes=("/p/",), path=str(hidden))

    assert FileTable([folder]).find(b"/f/private/secret.txt") is not None
    table = FileTable([folder, inner], [str(hidden)])
    assert table.find(b"/f/private/secret.txt") is None
    assert table.find(b"/f/link.txt") is None
    assert table.find(b"/p/secret.txt") is None
    assert table.find(b"/f/private.txt") is not None
    assert len(table) == 1
