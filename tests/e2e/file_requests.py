"""Requests for files, sent to djserve and to nginx with the same folder.

``python -m tests.e2e.file_requests`` prints what each of them answers.
"""

from __future__ import annotations

import http.client
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conftest import find_free_port, find_program, server_starter
from tests.e2e.test_proxy import running

PATIENCE = 120
TEXT = b"".join(b"line %03d of a text\n" % number for number in range(100))
SECRET = b"no one's to read"
MODIFIED = 1445412480
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
EARLIER = "Tue, 20 Oct 2015 07:28:00 GMT"
RFC_850 = "Wednesday, 21-Oct-15 07:28:00 GMT"
LATER = "Thu, 22 Oct 2015 07:28:00 GMT"

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 404})
    await send({"type": "http.response.body", "body": b"the application's"})
"""

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    types {{ text/plain txt; }}
    client_body_temp_path {folder}/body;
    server {{
        listen 127.0.0.1:{port};
        location /s/ {{
            alias {folder}/files/;
            gzip_static on;
        }}
    }}
}}
"""


class Request(NamedTuple):
    """``{etag}`` in a field stands for the server's own tag of the file."""

    name: str
    target: str = "a.txt"
    fields: dict[str, str] = {}
    method: str = "GET"


class Answer(NamedTuple):
    """What a client makes its decisions by."""

    status: int
    content_range: str
    coding: str
    content: bytes

    def __str__(self) -> str:
        words = [str(self.status)]
        if self.content_range:
            words.append(self.content_range)
        if self.coding:
            words.append(self.coding)
        if self.content == TEXT:
            words.append("whole")
        elif SECRET in self.content:
            words.append("the other file")
        elif 200 <= self.status < 300:
            words.append(f"{len(self.content)} bytes")
        return " ".join(words)


def ask(name: str, method: str = "GET", **fields: str) -> Request:
    """Return a request for the file with fields: ``if_match`` is If-Match."""
    named = {key.replace("_", "-"): value for key, value in fields.items()}
    return Request(name, fields=named, method=method)


REQUESTS = [
    Request("GET"),
    Request("HEAD", method="HEAD"),
    Request("POST", method="POST"),
    Request("DELETE", method="DELETE"),
    Request("a query", "a.txt?v=1"),
    Request("a name in percent-encoding", "%61.txt"),
    Request("a name with a blank", "two%20words.txt"),
    Request("no such file", "none.txt"),
    ask("If-None-Match: its tag", if_none_match="{etag}"),
    ask("If-None-Match: its tag, weak", if_none_match="W/{etag}"),
    ask("If-None-Match: another", if_none_match='"other"'),
    ask("If-None-Match: a list", if_none_match='"other", {etag}'),
    ask("If-None-Match: *", if_none_match="*"),
    ask("If-Modified-Since: its date", if_modified_since=DATE),
    ask("If-Modified-Since: an earlier one", if_modified_since=EARLIER),
    ask("If-Modified-Since: a later one", if_modified_since=LATER),
    ask("If-Modified-Since: no date", if_modified_since="yesterday"),
    ask("another tag, its date", if_none_match='"other"', if_modified_since=DATE),
    ask("If-Match: its tag", if_match="{etag}"),
    ask("If-Match: another", if_match='"other"'),
    ask("If-Match: *", if_match="*"),
    ask("If-Unmodified-Since: its date", if_unmodified_since=DATE),
    ask("If-Unmodified-Since: an earlier one", if_unmodified_since=EARLIER),
    ask("bytes=0-9", range="bytes=0-9"),
    ask("bytes=100-", range="bytes=100-"),
    ask("bytes=-5", range="bytes=-5"),
    ask("bytes=1999-5000", range="bytes=1999-5000"),
    ask("bytes=5000-", range="bytes=5000-"),
    ask("bytes=9-5", range="bytes=9-5"),
    ask("bytes=x", range="bytes=x"),
    ask("items=0-9", range="items=0-9"),
    ask("two ranges", range="bytes=0-1,5-6"),
    ask("HEAD with bytes=0-9", "HEAD", range="bytes=0-9"),
    ask("bytes=0-9, If-Range: its tag", range="bytes=0-9", if_range="{etag}"),
    ask("bytes=0-9, If-Range: another", range="bytes=0-9", if_range='"other"'),
    ask("bytes=0-9, If-Range: its date", range="bytes=0-9", if_range=DATE),
    ask("Accept-Encoding: gzip", accept_encoding="gzip"),
    ask("Accept-Encoding: gzip;q=0", accept_encoding="gzip;q=0"),
    ask("Accept-Encoding: identity, gzip;q=0.5", accept_encoding="identity, gzip;q=.5"),
    ask("Accept-Encoding: *", accept_encoding="*"),
    ask("Accept-Encoding: br, zstd", accept_encoding="br, zstd"),
    ask("gzip with bytes=0-9", accept_encoding="gzip", range="bytes=0-9"),
    Request("..", "../secret.txt"),
    Request("%2e%2e", "%2e%2e/secret.txt"),
    Request("..%2f", "..%2fsecret.txt"),
    Request("%2e%2e%2f", "%2e%2e%2fsecret.txt"),
    Request("..%5c", "..%5csecret.txt"),
    Request("%252e%252e", "%252e%252e/secret.txt"),
    Request("a NUL", "a.txt%00.png"),
    Request("two slashes", "/a.txt"),
    Request("an absolute path", "{folder}/secret.txt"),
    Request("a folder and ..", "deep/../a.txt"),
    Request("a folder and .", "./a.txt"),
    Request("a folder", "deep"),
    Request("a folder's slash", "deep/"),
    Request("a file's slash", "a.txt/"),
    Request("a dotfile", ".env"),
    Request("a link out of the folder", "link.txt"),
    Request("OPTIONS", method="OPTIONS"),
    Request("PUT", method="PUT"),
    ask("HEAD, If-None-Match: its tag", "HEAD", if_none_match="{etag}"),
    ask("HEAD, If-Match: another", "HEAD", if_match='"other"'),
    ask("HEAD with bytes=5000-", "HEAD", range="bytes=5000-"),
    ask("If-Match: its tag, weak", if_match="W/{etag}"),
    ask("If-Match: a list", if_match='"other", {etag}'),
    ask("If-Match: another, with a range", if_match='"other"', range="bytes=0-9"),
    ask("If-None-Match: its tag, range", if_none_match="{etag}", range="bytes=0-9"),
    ask("its tag, an earlier date", if_match="{etag}", if_unmodified_since=EARLIER),
    ask("If-Unmodified-Since: no date", if_unmodified_since="yesterday"),
    ask("If-Modified-Since: RFC 850", if_modified_since=RFC_850),
    ask("If-Modified-Since: asctime", if_modified_since="Wed Oct 21 07:28:00 2015"),
    ask("bytes=0-9, If-Range: its tag, weak", range="bytes=0-9", if_range="W/{etag}"),
    ask("bytes=0-9, If-Range: a list", range="bytes=0-9", if_range='{etag}, "other"'),
    ask("bytes=-0", range="bytes=-0"),
    ask("bytes=0-1,9999-", range="bytes=0-1,9999-"),
    ask("the whole four times", range="bytes=0-,0-,0-,0-"),
    ask("a range of 20 digits", range="bytes=99999999999999999999-"),
    Request("a range of nothing", "empty.txt", {"range": "bytes=0-"}),
    Request("beyond 4 GiB", "sparse.bin", {"range": "bytes=4294967290-4294967299"}),
    ask("Accept-Encoding: GZIP", accept_encoding="GZIP"),
    ask("Accept-Encoding: gzip;q=0.000", accept_encoding="gzip;q=0.000"),
    ask("Accept-Encoding: identity;q=0", accept_encoding="identity;q=0"),
    ask("Accept-Encoding: *;q=0", accept_encoding="*;q=0"),
    Request("a variant of older content", "stale.txt", {"accept-encoding": "gzip"}),
    Request("a parameter", "a.txt;v=1"),
    Request("an encoded question mark", "a.txt%3Fv=1"),
    Request("a long query", "a.txt?" + "x" * 5000),
    Request("a long name", "x" * 3000),
    Request("a line break in a name", "two%0Alines.txt"),
    Request("a name in UTF-8", "caf%C3%A9.txt"),
    Request("a name in Latin-1", "caf%E9.txt"),
    Request("broken percent-encoding", "%zz"),
    Request("overlong UTF-8", "%c0%ae%c0%ae/secret.txt"),
    Request(".%2e", ".%2e/secret.txt"),
    Request("..;", "..;/secret.txt"),
    Request("four dots", "....//secret.txt"),
    Request("an encoded slash", "deep%2fb"),
]


def make_files(folder: Path) -> None:
    """Make the folder of files, and what lies beside it."""
    files = folder / "files"
    (files / "deep").mkdir(parents=True)
    (folder / "secret.txt").write_bytes(SECRET)
    (files / "link.txt").symlink_to(folder / "secret.txt")
    contents = {"a.txt": TEXT, "two words.txt": TEXT, ".env": SECRET, "deep/b": b"b"}
    contents |= {"a.txt.gz": compress(TEXT), "a.txt.br": b"br", "a.txt.zst": b"zstd"}
    contents |= {"two\nlines.txt": TEXT, "café.txt": TEXT, "empty.txt": b""}
    contents |= {"stale.txt": TEXT, "stale.txt.gz": compress(b"old")}
    for name, content in contents.items():
        (files / name).write_bytes(content)
        os.utime(files / name, (MODIFIED, MODIFIED))
    os.utime(files / "stale.txt.gz", (1, 1))
    with open(files / "sparse.bin", "wb") as sparse:
        sparse.truncate(2**32 + 4)
    (folder / "application.py").write_text(APPLICATION)


def compress(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)


@contextmanager
def serve(folder: Path) -> Iterator[tuple[int, int]]:
    """Start both servers for the folder; yield djserve's port, and nginx's."""
    port, other = find_free_port(), find_free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=other))
    nginx = [find_program("nginx"), "-c", str(config), "-p", str(folder)]
    words = ["-m", "djserve", "application:app", "--bind", f"127.0.0.1:{port}"]
    words += ["--files", f"/s/={folder}/files", "--files-variants"]
    with (
        server_starter(folder) as start,
        running(nginx, other, folder / "nginx.log"),
    ):
        start(*words, port=port, cwd=folder, env={**os.environ})
        yield port, other


class Client:
    """Send the requests to one server, each on its own connection, as they are."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self._etag = self._send("GET", "/s/a.txt", {}).headers["ETag"]

    def ask(self, request: Request) -> Answer:
        """Return the answer to a request."""
        target = "/s/" + request.target.replace("{folder}", str(self._folder))
        fields = {
            name: value.replace("{etag}", self._etag)
            for name, value in request.fields.items()
        }
        response = self._send(request.method, target, fields)
        content = response.read()
        headers = response.headers
        status = response.status
        if status >= 300:
            content = SECRET if SECRET in content else b""
        content_range = headers.get("Content-Range", "")
        return Answer(
            status, content_range, headers.get("Content-Encoding", ""), content
        )

    def _send(
        self, method: str, target: str, fields: dict[str, str]
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, PATIENCE)
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**fields, "Connection": "close"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()


def main() -> None:
    """Print a line for each request, marked if the answers differ."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        with serve(folder) as (port, other):
            ours, theirs = Client(port, folder), Client(other, folder)
            for request in REQUESTS:
                answers = ours.ask(request), theirs.ask(request)
                mark = "" if answers[0] == answers[1] else "*"
                sys.stdout.write(
                    f"{mark:1} {request.name:40} {answers[0]!s:40} {answers[1]!s}\n"
                )


if __name__ == "__main__":
    main()
