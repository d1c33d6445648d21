"""The built wheel, installed alone in a fresh environment outside the checkout."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from websockets.sync.client import connect

import djserve

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent


APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError
    body = b"path " + scope["raw_path"]
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 203, "headers": headers})
    await send({"type": "http.response.body", "body": body})

async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout gets no build directory."""
    source = tmp_path_factory.mktemp("source")
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "djserve", source / "djserve", ignore=caches)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a new environment that borrows what it requires.

    Nothing else of this environment is there, as after an installation without extras.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    site_packages = next(home.glob("lib/python*/site-packages"))
    for place in sorted(find_required("djserve")):
        (site_packages / place.name).symlink_to(place)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    result = subprocess.run(install, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return home


def find_required(name: str) -> set[Path]:
    """Return what lies in site-packages of all that a distribution requires."""
    places: set[Path] = set()
    waiting, seen = [name], {name}
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            requirement = Requirement(line)
            known = canonicalize_name(requirement.name)
            marker = requirement.marker
            if known in seen or (marker and not marker.evaluate({"extra": ""})):
                continue
            seen.add(known)
            waiting.append(known)
            distribution = metadata.distribution(known)
            tops = {file.parts[0] for file in distribution.files or ()}
            places |= {
                Path(str(distribution.locate_file(top)))
                for top in tops - {"..", "__pycache__"}
            }
    return places


def run(environment: Path, *command: str) -> str:
    """Run a program of the environment from inside it, far from the checkout."""
    program, *args = command
    result = subprocess.run(
        [str(environment / "bin" / program), *args],
        cwd=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    folder = f"djserve-{djserve.__version__}.dist-info/"
    packed = {name for name in names if not name.startswith(folder)}
    modules = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("djserve/**/*.py")}
    assert modules | {"djserve/py.typed"} <= packed
    assert all(name.startswith("djserve/") for name in packed)
    assert f"{folder}licenses/LICENSE" in names


def test_channels_is_wanted_by_the_extra_alone(wheel: Path) -> None:
    name = f"djserve-{djserve.__version__}.dist-info/METADATA"
    message = message_from_bytes(zipfile.ZipFile(wheel).read(name))

    wanted = message.get_all("Requires-Dist") or []
    assert [each for each in wanted if "extra ==" not in each]
    of_channels = [each for each in wanted if each.startswith("channels>")]
    assert all("extra ==" in each for each in of_channels)
    assert 'channels>=4.3; extra == "channels"' in of_channels


def test_environment_uses_the_wheel_rather_than_the_checkout(environment: Path) -> None:
    found = run(environment, "python", "-c", "import djserve; print(djserve.__file__)")

    assert found.startswith(str(environment))


def test_installed_command_tells_its_version(environment: Path) -> None:
    assert djserve.__version__ in run(environment, "djserve", "--version")


def test_installed_package_runs_as_a_module(environment: Path) -> None:
    assert "--bind" in run(environment, "python", "-m", "djserve", "--help")


@pytest.fixture
def port(
    environment: Path,
    tmp_path: Path,
    free_port: int,
    start_server: Callable[..., object],
) -> int:
    """Serve the application by what is installed."""
    (tmp_path / "hello.py").write_text(APPLICATION)
    python = str(environment / "bin" / "python")
    bind = f"127.0.0.1:{free_port}"
    command = ("-m", "djserve", "hello:application", "--bind", bind)
    start_server(*command, port=free_port, python=python, cwd=tmp_path)
    return free_port


def test_installed_command_serves_an_application(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/from/the/wheel")
    response = connection.getresponse()
    body = response.read()
    connection.close()

    assert (response.status, body) == (203, b"path /from/the/wheel")


def test_installed_command_serves_websockets(port: int) -> None:
    """In messages of one frame and of several, with a ping, to the Close frame."""
    with connect(f"ws://127.0.0.1:{port}/", open_timeout=60) as client:
        client.send("whole")
        client.send(["in ", "three ", "parts"])
        echoes = [client.recv(timeout=60) for _ in range(2)]
        assert client.ping().wait(60)
        client.close(1000)

    assert echoes == ["whole", "in three parts"]
    assert client.close_code == 1000
