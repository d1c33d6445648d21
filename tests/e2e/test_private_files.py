"""Files that an application names, beside nginx in front of the same application."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import find_free_port, find_program, server_starter
from tests.e2e.test_proxy import running

pytestmark = pytest.mark.e2e

PATIENCE = 120
SECRET = "no one's to read"

APPLICATION = """
from urllib.parse import unquote_to_bytes

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    headers = [
        (b"content-type", b"application/pdf"),
        (b"content-disposition", b"inline"),
        (b"set-cookie", b"a=b"),
        (b"etag", b'"of the application"'),
    ]
    target = unquote_to_bytes(scope["query_string"])
    if target:
        headers.append((b"x-accel-redirect", target))
    status = int(dict(scope["headers"]).get(b"x-status", 200))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"own"})
"""

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{behind}; }}
        location /private/ {{
            internal;
            alias {folder}/private/;
        }}
    }}
}}
"""

TARGETS = [
    "/private/a.txt",
    "/private/two%20words.txt",
    "/private/a.txt?v=1",
    "/private//a.txt",
    "/private/./a.txt",
    "/private/a.txt/",
    "/private/none.txt",
    "/private/in.txt",
    "/private/.env",
    "/private/../secret.txt",
    "/private/deep/../../secret.txt",
    "/private/%2e%2e/secret.txt",
    "/private/..%2fsecret.txt",
    "/private/%252e%252e/secret.txt",
    "/private/a.txt%00.pdf",
    f"/private/{'x' * 300}",
]

# Our status and nginx's.
DIFFERENCES = {
    "/private/deep": (404, 301),
    "/private/deep/": (404, 403),
    "/private/out.txt": (404, 200),
}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """djserve with the setting, and nginx before djserve without it."""
    folder = tmp_path_factory.mktemp("private")
    make_files(folder)
    ours, behind, port = (find_free_port() for _ in range(3))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, behind=behind))
    nginx = [find_program("nginx"), "-c", str(config), "-p", str(folder)]
    words = ["-m", "djserve", "application:app", "--bind"]
    setting = ["--files-internal", f"/private/={folder}/private"]
    with (
        server_starter(folder) as start,
        running(nginx, port, folder / "nginx.log"),
    ):
        env = {**os.environ}
        start(*words, f"127.0.0.1:{behind}", port=behind, cwd=folder, env=env)
        start(*words, f"127.0.0.1:{ours}", *setting, port=ours, cwd=folder, env=env)
        yield f"http://127.0.0.1:{ours}", f"http://127.0.0.1:{port}"


def make_files(folder: Path) -> None:
    private = folder / "private"
    (private / "deep").mkdir(parents=True)
    (folder / "secret.txt").write_text(SECRET)
    for name in ("a.txt", "two words.txt", ".env", "deep/b.txt"):
        (private / name).write_text(f"This is {name}")
    (private / "in.txt").symlink_to(private / "a.txt")
    (private / "out.txt").symlink_to(folder / "secret.txt")
    (folder / "application.py").write_text(APPLICATION)


def ask(url: str, target: str, method: str = "GET", **fields: str) -> httpx.Response:
    address = f"{url}/view?{quote(target, safe='')}"
    return httpx.request(method, address, headers=fields, timeout=PATIENCE)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_target_is_answered_as_by_nginx(
    urls: tuple[str, str], target: str, method: str
) -> None:
    ours, theirs = (ask(url, target, method) for url in urls)

    assert ours.status_code == theirs.status_code
    assert SECRET not in ours.text
    if ours.status_code == 200:
        assert ours.content == theirs.content
        for name in ("content-type", "content-disposition", "set-cookie"):
            assert ours.headers[name] == theirs.headers[name]
        for response in (ours, theirs):
            assert "x-accel-redirect" not in response.headers
            assert response.headers["etag"] != '"of the application"'


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_file_is_sent_for_each_status_of_success_as_by_nginx(
    urls: tuple[str, str], status: int
) -> None:
    fields = {"x-status": str(status)}
    ours, theirs = (ask(url, "/private/a.txt", **fields) for url in urls)

    assert ours.status_code == theirs.status_code == 200
    assert ours.content == theirs.content == b"This is a.txt"


@pytest.mark.parametrize("status", [300, 302, 400, 401, 403, 404, 410, 500, 503])
@pytest.mark.parametrize("target", ["/private/a.txt", "/private/none.txt"])
def test_response_that_refuses_never_sends_the_file(
    urls: tuple[str, str], status: int, target: str
) -> None:
    # nginx sends it, with 200: a middleware that sets 403 gives the file away.
    fields = {"x-status": str(status)}
    ours, theirs = (ask(url, target, **fields) for url in urls)

    assert (ours.status_code, ours.content) == (status, b"own")
    assert ours.headers["etag"] == '"of the application"'
    assert "x-accel-redirect" not in ours.headers
    assert theirs.status_code == (200 if "a.txt" in target else 404)


@pytest.mark.parametrize("target", DIFFERENCES)
def test_differences_are_the_documented_ones(
    urls: tuple[str, str], target: str
) -> None:
    ours, theirs = (ask(url, target) for url in urls)

    assert (ours.status_code, theirs.status_code) == DIFFERENCES[target]
    assert SECRET not in ours.text


@pytest.mark.parametrize(
    "fields",
    [
        {"range": "bytes=2-5"},
        {"range": "bytes=-3"},
        {"range": "bytes=900-"},
        {"range": "bytes=2-5", "if-range": '"other"'},
        {"if-none-match": '"other"'},
        {"if-none-match": "*"},
        {"if-match": '"other"'},
    ],
)
def test_conditions_and_ranges_are_answered_as_by_nginx(
    urls: tuple[str, str], fields: dict[str, str]
) -> None:
    ours, theirs = (ask(url, "/private/a.txt", **fields) for url in urls)

    assert ours.status_code == theirs.status_code
    assert ours.headers.get("content-range") == theirs.headers.get("content-range")
    if ours.status_code < 300:
        assert ours.content == theirs.content


@pytest.mark.parametrize("path", ["/private/a.txt", "/private/", "/%70rivate/a.txt"])
def test_prefix_is_closed_to_clients(urls: tuple[str, str], path: str) -> None:
    for url in urls:
        assert httpx.get(url + path, timeout=PATIENCE).status_code == 404
