"""What a request for a file gets, by its fields (RFC 9110 12.5.3, 13, 14)."""

from __future__ import annotations

import gzip
import os
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.files.answers import Answer, answer, choose_part
from djserve.files.table import File, FileTable, Folder

MODIFIED = 1445412480
DATE = b"Wed, 21 Oct 2015 07:28:00 GMT"
SIZE = 1000


@pytest.fixture
def file(tmp_path: Path) -> File:
    return make_file(tmp_path)


def make_file(folder: Path, *suffixes: str) -> File:
    path = folder / "a.txt"
    path.write_bytes(b"a" * SIZE)
    os.utime(path, (MODIFIED, MODIFIED))
    for suffix in suffixes:
        variant = folder / f"a.txt{suffix}"
        variant.write_bytes(gzip.compress(b"a" * SIZE))
        os.utime(variant, (MODIFIED, MODIFIED))
    found = FileTable([Folder(prefixes=("/",), path=str(folder))]).find(b"/a.txt")
    assert found is not None
    return found


def ask(file: File, method: str = "GET", **fields: bytes) -> Answer:
    return ask_with(file, method, fields)


def ask_with(file: File, method: str, fields: dict[str, bytes]) -> Answer:
    headers = [(n.replace("_", "-").encode(), value) for n, value in fields.items()]
    return answer(file, method, [(b"host", b"a"), *headers])


def test_get_sends_the_whole_file(file: File) -> None:
    found = ask(file)

    assert (found.status, found.part) == (200, range(SIZE))
    assert dict(found.fields)[b"content-length"] == b"1000"


def test_head_has_the_fields_of_get_and_no_content(file: File) -> None:
    found = ask(file, "HEAD", range=b"bytes=0-9")

    assert (found.status, found.part) == (200, range(0))
    assert found.fields == ask(file).fields


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"])
def test_other_methods_are_not_allowed(file: File, method: str) -> None:
    found = ask(file, method)

    assert found.status == 405
    assert (b"allow", b"GET, HEAD") in found.fields


def etag_of(file: File, number: int = 0) -> bytes:
    return file.representations[number].etag


@pytest.mark.parametrize(
    "template", [b"%b", b"W/%b", b'"x", %b', b'"x",%b,"y"', b" * "]
)
def test_matching_entity_tag_is_not_modified(file: File, template: bytes) -> None:
    tags = template.replace(b"%b", etag_of(file))
    found = ask(file, if_none_match=tags)

    assert (found.status, found.part) == (304, range(0))
    names = {name for name, _ in found.fields}
    assert {b"etag", b"cache-control"} <= names
    assert names.isdisjoint({b"content-length", b"content-type"})


def test_entity_tag_counts_before_the_date(file: File) -> None:
    assert ask(file, if_none_match=b'"x"', if_modified_since=DATE).status == 200


@pytest.mark.parametrize(
    ("date", "status"),
    [
        (DATE, 304),
        (b"Thu, 22 Oct 2015 07:28:00 GMT", 304),
        (b"Wednesday, 21-Oct-15 07:28:00 GMT", 304),
        (b"Wed Oct 21 07:28:00 2015", 304),
        (b"Wed, 21 Oct 2015 07:27:59 GMT", 200),
        (b"yesterday", 200),
        (b"", 200),
        (b"\xff", 200),
        (b"Wed, 21 Oct 99999 07:28:00 GMT", 200),
    ],
)
def test_date_of_the_last_change(file: File, date: bytes, status: int) -> None:
    assert ask(file, if_modified_since=date).status == status


def test_conditions_that_must_hold(file: File) -> None:
    before, after = formatdate(MODIFIED - 1, usegmt=True), formatdate(MODIFIED)

    assert ask(file, if_match=b'"x"').status == 412
    assert ask(file, if_match=etag_of(file)).status == 200
    # A strong comparison: RFC 9110 13.1.1.
    assert ask(file, if_match=b"W/" + etag_of(file)).status == 412
    assert ask(file, if_match=b"*").status == 200
    assert ask(file, if_unmodified_since=before.encode()).status == 412
    assert ask(file, if_unmodified_since=after.encode()).status == 200
    both = ask(file, if_match=b"*", if_unmodified_since=before.encode())
    assert both.status == 200


def test_part_of_a_file(file: File) -> None:
    found = ask(file, range=b"bytes=10-19")

    assert (found.status, found.part) == (206, range(10, 20))
    fields = dict(found.fields)
    assert fields[b"content-range"] == b"bytes 10-19/1000"
    assert fields[b"content-length"] == b"10"
    assert fields[b"etag"] == etag_of(file)


def test_range_beyond_the_end(file: File) -> None:
    found = ask(file, range=b"bytes=1000-")

    assert (found.status, found.part) == (416, range(0))
    assert (b"content-range", b"bytes */1000") in found.fields


@pytest.mark.parametrize("wanted", [b"bytes=0-1,3-4", b"items=0-1", b""])
def test_other_ranges_get_the_whole(file: File, wanted: bytes) -> None:
    assert ask(file, range=wanted).status == 200


def test_part_only_of_what_the_client_has(file: File) -> None:
    wanted = b"bytes=0-9"

    assert ask(file, range=wanted, if_range=etag_of(file)).status == 206
    assert ask(file, range=wanted, if_range=DATE).status == 206
    assert ask(file, range=wanted, if_range=b'"x"').status == 200
    assert ask(file, range=wanted, if_range=b"W/" + etag_of(file)).status == 200
    later = b"Thu, 22 Oct 2015 07:28:00 GMT"
    assert ask(file, range=wanted, if_range=later).status == 200


def test_condition_counts_before_the_range(file: File) -> None:
    assert ask(file, range=b"bytes=0-9", if_none_match=etag_of(file)).status == 304


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"br;q=1.0, gzip;q=0.5", b"br"),
        (b"br;q=0.2, gzip;q=0.5", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"gzip;q=0", b""),
        (b"*", b"zstd"),
        (b"*;q=0.5, zstd;q=0", b"br"),
        (b"identity, gzip;q=0.5", b""),
        (b"gzip;q=abc", b""),
        (b"gzip;q=nan", b""),
        (b"gzip;q=7", b""),
        (b"compress", b""),
    ],
)
def test_coding_is_the_best_that_the_client_takes(
    tmp_path: Path, accepted: bytes, coding: bytes
) -> None:
    file = make_file(tmp_path, ".zst", ".br", ".gz")
    found = ask(file, accept_encoding=accepted)

    assert found.representation is not None
    assert found.representation.encoding == coding
    assert dict(found.fields).get(b"content-encoding", b"") == coding
    assert (b"vary", b"Accept-Encoding") in found.fields


def test_tag_of_another_coding_does_not_match(tmp_path: Path) -> None:
    file = make_file(tmp_path, ".gz")
    gzipped = etag_of(file, 1)

    assert ask(file, if_none_match=gzipped).status == 200
    assert ask(file, if_none_match=gzipped, accept_encoding=b"gzip").status == 304


def test_folder_without_its_slash_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text("docs")
    folder = Folder(prefixes=("/",), path=str(tmp_path), has_indexes=True)
    file = FileTable([folder]).find(b"/docs")

    assert file is not None
    found = ask(file)
    assert found.status == 301
    assert (b"location", b"docs/") in found.fields
    with_query = answer(file, "GET", [], b"page=2")
    assert (b"location", b"docs/?page=2") in with_query.fields


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "accept_encoding",
                "if_match",
                "if_none_match",
                "if_modified_since",
                "if_unmodified_since",
                "range",
                "if_range",
            ]
        ),
        st.binary(max_size=30),
    )
)
def test_any_fields_get_an_answer(fields: dict[str, bytes]) -> None:
    found = ask_with(KEPT, "GET", fields)

    assert found.status in (200, 206, 304, 412, 416)
    assert found.part.stop <= SIZE


def _keep_one() -> File:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return make_file(Path(folder), ".gz")


KEPT = _keep_one()


PART_SIZE = 100
NOTHING = range(0)

PARTS: list[tuple[bytes, range | None]] = [
    (b"bytes=0-", range(100)),
    (b"bytes=0-0", range(1)),
    (b"bytes=10-19", range(10, 20)),
    (b"BYTES=10-19", range(10, 20)),
    (b"bytes= 10 - 19 ", range(10, 20)),
    (b"bytes=99-", range(99, 100)),
    (b"bytes=90-1000", range(90, 100)),
    (b"bytes=-1", range(99, 100)),
    (b"bytes=-1000", range(100)),
    (b"bytes=100-, 0-1", range(2)),
    (b"bytes=100-", NOTHING),
    (b"bytes=100-200", NOTHING),
    (b"bytes=-0", NOTHING),
    (b"bytes=9-5", NOTHING),
    (b"bytes=-", NOTHING),
    (b"bytes=a-b", NOTHING),
    (b"bytes=1", NOTHING),
    (b"bytes=0-1,", NOTHING),
    (b"bytes=0-1;", NOTHING),
    (b"bytes=+1-2", NOTHING),
    (b"bytes=1_0-2_0", NOTHING),
    (b"bytes=0-" + b"9" * 5000, NOTHING),
    (b"bytes=0-1,3-4", None),
    (b"bytes=0-1,0-1", None),
    (b"bytes=", None),
    (b"bytes", None),
    (b"", None),
    (b"items=0-1", None),
    (b"bytes 0-1", None),
]


@pytest.mark.parametrize(("wanted", "part"), PARTS)
def test_field_asks_for_a_part(wanted: bytes, part: range | None) -> None:
    assert choose_part(wanted, PART_SIZE) == part


def test_empty_file_is_sent_whole() -> None:
    assert choose_part(b"bytes=0-", 0) is None


@given(st.binary(max_size=20), st.integers(0, 50))
def test_any_field_asks_for_a_part_that_exists(text: bytes, size: int) -> None:
    part = choose_part(b"bytes=" + text, size)

    assert part is None or not part or (0 <= part.start < part.stop <= size)
