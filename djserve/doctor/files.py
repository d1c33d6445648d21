"""The files of a project that start servers or name packages, and what they say.

Every file is read as text and may be broken: what cannot be read is named, not raised.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from djserve.conf.env_file import load_env_file
from djserve.doctor.compose import ComposeService, read_services
from djserve.doctor.translate import SERVERS
from djserve.doctor.words import join, quote, read_list
from djserve.errors import ConfigError
from djserve.system import read_regular

SKIPPED = {"node_modules", "__pycache__", "site-packages", "build", "dist", "static"}
SKIPPED |= {"staticfiles", "media", "venv", "env", "htmlcov", "docs", "tests", "test"}
LARGEST = 256 * 1024
MOST_FILES = 5000
DEEPEST = 4

_SERVER = re.compile(rf"(?<![\w-])({'|'.join(SERVERS)})(?![\w-])")
_PROXY = re.compile(
    r"\b(proxy_pass|uwsgi_pass|reverse_proxy|WSGIScriptAlias)\b|^backend ", re.M
)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(?:[=<>!~;@ ]|$)")
_URL = re.compile(
    r"(?:(?:-e|--editable)[ =]?)?\s*(?P<url>(?:\w+\+)?\w+://[^\s#;]+)"
    r"(?:#(?P<fragment>[^\s;]*))?(?:\s*;.*)?"
)
_OWN_NAME = re.compile(r"GUNICORN_CMD_ARGS|(?:UVICORN|GRANIAN|UWSGI)_[A-Z0-9_]+")
"""Variables that a server takes flags from."""

# NAME=value, quoted or not, any number of them in a line; or NAME and the line's rest.
_VARIABLE = re.compile(
    rf"(?<!\S)(?P<name>{_OWN_NAME.pattern})"
    r"(?: (?P<rest>.+)|=(?P<value>\"[^\"]*\"|'[^']*'|\S*))"
)
_YAML_KEY = re.compile(
    r"^(?P<indent>\s*)(?:- )?(?P<key>command|entrypoint|args|cmd|run|\w*[cC]ommand)"
    r":\s*(?P<value>.*)$"
)


@dataclass(frozen=True, slots=True)
class Start:
    """A command that starts a server: its file, its line there, and its text."""

    path: str
    line: int
    text: str
    # A list of words that no shell reads, as in a Dockerfile.
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that only a server reads, set where no command stands."""

    path: str
    line: int
    name: str
    value: str


@dataclass(slots=True)
class Files:
    """What the files of a project say.

    ``units`` are systemd's and supervisord's that start a server: the directives of
    each.
    """

    folder: Path = field(default_factory=Path)
    starts: list[Start] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)
    proxies: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    units: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)


def find_manage(folder: Path) -> str:
    """Return where a project's manage.py is: here, or in the only folder with one."""
    if (folder / "manage.py").is_file():
        return "manage.py"
    found = sorted(folder.glob("*/manage.py"))
    return found[0].relative_to(folder).as_posix() if len(found) == 1 else ""


def read_files(folder: Path) -> Files:
    """Return what the files below a folder say."""
    files = Files(folder)
    for path in _walk(folder):
        read = _find_reader(path)
        if read is None:
            continue
        name = path.relative_to(folder).as_posix()
        try:
            if path.stat().st_size > LARGEST:
                continue
            # Not path.read_text(): a FIFO would hold it up for ever.
            text = read_regular(path).decode("utf-8", "replace")
            read(files, name, text.replace("\r\n", "\n"))
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            files.unreadable.append(f"{name}: {error}")
    return files


def _walk(top: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(top):
        depth = len(Path(folder).relative_to(top).parts)
        if depth >= DEEPEST or "pyvenv.cfg" in names:
            folders[:] = []
        if "pyvenv.cfg" in names:
            continue
        folders[:] = sorted(
            each for each in folders if each not in SKIPPED and each[0] != "."
        )
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            yield Path(folder, name)


_Reader = Callable[[Files, str, str], None]


def _find_reader(path: Path) -> _Reader | None:
    """Return what reads a file of this name, None if it is of no interest."""
    name, suffix = path.name, path.suffix.lower()
    lowered = name.lower()
    if lowered.startswith("procfile"):
        return _read_procfile
    if "dockerfile" in lowered or lowered.startswith("containerfile"):
        return None if lowered.endswith("ignore") else _read_dockerfile
    if suffix in (".yml", ".yaml"):
        return _read_yaml
    if suffix == ".toml" or name == "Pipfile":
        return _read_toml
    if suffix == ".json":
        return None if lowered == "package-lock.json" else _read_json
    if suffix in (".service", ".ini") or lowered.startswith("supervisord"):
        return _read_unit
    if suffix == ".conf" or lowered in ("caddyfile", "haproxy.cfg"):
        return _read_conf
    if suffix == ".cfg":
        return _read_setup
    in_requirements = path.parent.name == "requirements"
    if suffix in (".txt", ".in") and (in_requirements or "require" in lowered):
        return _read_requirements
    if suffix in (".sh", ".bash") or lowered in ("makefile", "justfile", "entrypoint"):
        return _read_script
    if suffix in (".bat", ".cmd", ".ps1"):
        return _read_windows_script
    is_nameless = not suffix and not name.startswith(".")
    # Sockets, and what only others may read, say nothing and are not missed.
    is_readable = is_nameless and path.is_file() and os.access(path, os.R_OK)
    return _read_nameless if is_readable else None


def _join_lines(text: str, mark: str = "\\") -> Iterator[tuple[int, str]]:
    """Yield each line with its number; a backslash at its end continues it."""
    number, whole = 0, ""
    for count, line in enumerate(text.splitlines(), 1):
        number = number or count
        # What indents a line is no part of the command.
        line = f"{whole} {line.strip()}" if whole else line
        if line.rstrip().endswith(mark):
            whole = line.rstrip()[:-1].rstrip()
            continue
        yield number, line
        number, whole = 0, ""
    if whole:
        yield number, whole


def _add(files: Files, path: str, line: int, command: object) -> bool:
    """Keep a command if it names a server."""
    if isinstance(command, list):
        words = [str(word) for word in command]
        # A shell in the list reads its line; else no word is expanded. A line that is
        # alone is for the shell of another key, as in Kubernetes.
        is_line = len(words) == 1 and " " in words[0]
        text, is_list = words[0] if is_line else join(words), not is_line
    else:
        text, is_list = str(command).strip(), False
    if not _SERVER.search(text) or text.startswith("#"):
        return False
    files.starts.append(Start(path, line, text, is_list))
    return True


def _read_procfile(files: Files, path: str, text: str) -> None:
    for number, line in _join_lines(text):
        process = re.match(r"\s*([\w-]+):\s*(.+)$", line)
        if process:
            _add(files, path, number, process[2])


def _read_dockerfile(files: Files, path: str, text: str) -> None:
    found: dict[str, tuple[int, object]] = {}
    variables: dict[str, str] = {}
    stages: dict[str, dict[str, str]] = {}
    for number, line in _join_lines(text):
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            found.clear()
            names = [each for each in rest.split() if not each.startswith("--")]
            # A stage has the environment of the one that it is built from.
            variables = dict(stages.get(names[0].lower(), {})) if names else {}
            stages[names[-1].lower() if names else ""] = variables
        elif word.upper() == "ENV":
            variables.update(_read_variables(rest))
        elif word.upper() in ("CMD", "ENTRYPOINT"):
            found[word.upper()] = number, read_list(rest.strip())
    entry, command = found.get("ENTRYPOINT"), found.get("CMD")
    lists = [each[1] for each in (entry, command) if each and isinstance(each[1], list)]
    if entry and len(lists) == 2:
        _add(files, path, entry[0], _with_variables(variables, lists[0] + lists[1]))
        return
    for each in (entry, command):
        if each is not None:
            _add(files, path, each[0], _with_variables(variables, each[1]))


def _read_variables(text: str) -> dict[str, str]:
    """Return the servers' own variables of an ENV line, with their values."""
    found = {}
    for match in _VARIABLE.finditer(text):
        found[match["name"]] = _unquote((match["rest"] or match["value"] or "").strip())
    return found


def _with_variables(variables: dict[str, str], command: object) -> object:
    """Return a command with what the image's environment adds to it."""
    used = {
        name: value
        for name, value in variables.items()
        if name.partition("_")[0].lower() in str(command)
    }
    if not used:
        return command
    if isinstance(command, list):
        return ["env", *(f"{name}={value}" for name, value in used.items()), *command]
    before = " ".join(f"{name}={quote(value)}" for name, value in used.items())
    return f"{before} {command}"


def _read_yaml(files: Files, path: str, text: str) -> None:
    """Read the commands of Compose, Kubernetes and platforms; it is not a parser."""
    lines = text.splitlines()
    services = read_services(lines)
    for service in services:
        _read_env_files(files, path, service)
        if not service.has_command:
            _keep_variables(files, path, service)
    used: set[int] = set()
    for index, line in enumerate(lines):
        match = _YAML_KEY.match(line)
        if match is None or index in used:
            continue
        variables = {}
        for service in services:
            if service.first <= index < service.end:
                variables = _servers_own(service.environment)
        value = re.sub(r"\s+#.*$", "", match["value"]).strip()
        below = _indented(lines[index + 1 :], len(match["indent"]))
        for number, command in _read_commands(index + 1, value, below):
            if match["key"] == "command" and isinstance(command, list):
                place, arguments = _read_arguments(lines, index, match)
                if arguments and not _is_shell(command):
                    command = [*command, *arguments]
                    used.add(place)
            _add(files, path, number, _with_variables(variables, command))


def _is_shell(command: list[object]) -> bool:
    return bool(command) and re.fullmatch(r"-\w*c", str(command[-1])) is not None


def _read_arguments(
    lines: list[str], index: int, command: re.Match[str]
) -> tuple[int, list[object]]:
    """Return the list at the key ``args`` beside a command, and its line."""
    depth = command.start("key")
    for number in range(index + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) < depth - 2:
            break
        match = _YAML_KEY.match(line)
        if match is None or match["key"] != "args" or match.start("key") != depth:
            continue
        value = re.sub(r"\s+#.*$", "", match["value"]).strip()
        below = _indented(lines[number + 1 :], len(match["indent"]))
        for _, found in _read_commands(number, value, below):
            if isinstance(found, list):
                return number, found
    return 0, []


def _read_commands(
    line: int, value: str, below: list[str]
) -> Iterator[tuple[int, object]]:
    """Yield what is run, by the text behind a key and the lines below it."""
    if value.startswith("["):
        yield line, read_list(value)
        return
    if value not in ("", "|", ">", "|-", ">-", "|+", ">+"):
        yield line, _unquote(value)
        return
    items = [each.strip() for each in below if each.strip()]
    if items and items[0].startswith("- "):
        yield line, [each[2:].strip().strip("\"'") for each in items]
    elif value.startswith("|"):
        yield from enumerate(items, line + 1)
    else:
        yield line, " ".join(items)


def _read_env_files(files: Files, path: str, service: ComposeService) -> None:
    """Add what a service's files of variables say, under its own variables."""
    for name in service.files:
        place = Path(files.folder, path).parent / name
        found: dict[str, str] = {}
        if not place.is_file():
            # It may be made where the service runs.
            continue
        try:
            load_env_file(str(place), found)
        except ConfigError as error:
            files.unreadable += error.problems
        service.environment = {**found, **service.environment}


def _keep_variables(files: Files, path: str, service: ComposeService) -> None:
    """Note a service's variables: the command is that of its image."""
    for name, value in _servers_own(service.environment).items():
        files.variables.append(Variable(path, service.first + 1, name, value))


def _servers_own(variables: dict[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in variables.items() if _OWN_NAME.fullmatch(name)
    }


def _indented(lines: list[str], indent: int) -> list[str]:
    """Return the lines below a key: deeper ones, or a list at its own depth."""
    below = []
    for line in lines:
        depth = len(line) - len(line.lstrip())
        is_item = depth >= indent and line.lstrip().startswith("- ")
        if line.strip() and depth <= indent and not is_item:
            break
        below.append(line)
    return below


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _read_toml(files: Files, path: str, text: str) -> None:
    data = tomllib.loads(text)
    for value in _strings(data):
        line = text[: max(0, text.find(value))].count("\n") + 1
        if not _REQUIREMENT.fullmatch(value) and _names_a_start(value):
            _add(files, path, line, value)
    project = data.get("project", {})
    groups = [project.get("dependencies", [])]
    groups += _values(project.get("optional-dependencies"))
    groups += _values(data.get("dependency-groups"))
    for group in groups:
        for requirement in group if isinstance(group, list) else []:
            _add_package(files, path, str(requirement))
    poetry = data.get("tool", {}).get("poetry", {})
    tables = [poetry.get("dependencies"), data.get("packages")]
    tables += [each.get("dependencies") for each in _values(poetry.get("group"))]
    for table in tables:
        for name in table if isinstance(table, dict) else ():
            _add_package(files, path, name)


def _values(table: object) -> list[Any]:
    return list(table.values()) if isinstance(table, dict) else []


def _strings(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value)


def _names_a_start(text: str) -> bool:
    """Return whether a text is a command rather than a requirement or a name."""
    return bool(re.search(r"\w[:.]\w|\s-", text)) and " " in text


def _read_json(files: Files, path: str, text: str) -> None:
    for value in _strings(json.loads(text)):
        if _names_a_start(value):
            line = text[: max(0, text.find(json.dumps(value)[1:-1]))].count("\n") + 1
            _add(files, path, line, value)


def _read_unit(files: Files, path: str, text: str) -> None:
    """Read systemd's and supervisord's commands, and uWSGI's ini files."""
    if re.search(r"^\[uwsgi\]", text, re.M):
        _add(files, path, 1, f"uwsgi --ini {path}")
        return
    starts: list[tuple[int, str]] = []
    variables: dict[str, str] = {}
    directives: dict[str, str] = {}
    for number, line in [*_join_lines(text), (0, "[")]:
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            # The variables of a section are its commands', wherever they stand in it.
            found = [
                _add(files, path, place, _with_variables(variables, command))
                for place, command in starts
            ]
            if any(found):
                files.units.append((path, directives))
            starts, variables, directives = [], {}, {}
        elif equals and key in ("ExecStart", "command"):
            starts.append((number, value.lstrip("-@:+!")))
        elif equals and key in ("Environment", "environment"):
            variables.update(_read_assignments(value))
        elif equals:
            directives[key] = value


def _read_assignments(text: str) -> dict[str, str]:
    """Return the servers' own variables of a unit's line, with their values."""
    try:
        # supervisord has commas between them.
        words = shlex.split(re.sub(r",\s*(?=\w+=)", " ", text))
    except ValueError:
        return {}
    pairs = (word.partition("=") for word in words)
    return _servers_own({name: value for name, _, value in pairs})


def _read_conf(files: Files, path: str, text: str) -> None:
    _read_unit(files, path, text)
    if _PROXY.search(text):
        files.proxies.append((path, text))


def _read_setup(files: Files, path: str, text: str) -> None:
    for line in text.splitlines():
        if line[:1].isspace():
            _add_package(files, path, line.strip())


def _read_requirements(files: Files, path: str, text: str) -> None:
    for line in text.splitlines():
        _add_package(files, path, line.strip())


def _read_script(files: Files, path: str, text: str) -> None:
    for number, line in _join_lines(text):
        stripped = line.strip().lstrip("@-")
        if not stripped.startswith("#") and _names_a_start(stripped):
            _add(files, path, number, stripped)


def _read_windows_script(files: Files, path: str, text: str) -> None:
    mark = "`" if path.lower().endswith(".ps1") else "^"
    for number, line in _join_lines(text, mark):
        # "& program" is PowerShell's call of it, "@" keeps cmd from showing it.
        stripped = re.sub(r"^\s*(?:[&@]\s*)+", "", line.strip())
        is_comment = re.match(r"#|::|rem\s", stripped, re.IGNORECASE)
        if not is_comment and _names_a_start(stripped):
            _add(files, path, number, stripped)


def _read_nameless(files: Files, path: str, text: str) -> None:
    """Read a file whose name says nothing: a script, or a site of nginx."""
    if re.match(r"#!.*\b(?:ba|da|a|z|)sh\b", text):
        _read_script(files, path, text)
    elif _PROXY.search(text) and "{" in text:
        files.proxies.append((path, text))


def _add_package(files: Files, path: str, requirement: str) -> None:
    url = _URL.fullmatch(requirement.partition(" #")[0].rstrip())
    if url:
        requirement = _name_of(url["url"], url["fragment"] or "")
    match = _REQUIREMENT.match(requirement)
    if match:
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        files.packages.setdefault(name, path)
        if name == "channels" and re.search(r"\[[^\]]*daphne", requirement):
            files.packages.setdefault("channels[daphne]", path)


def _name_of(url: str, fragment: str) -> str:
    """Return the package of a requirement that is a URL: a wheel, or a repository."""
    egg = re.search(r"(?:^|&)egg=([^&]+)", fragment)
    if egg:
        return egg[1]
    path = re.sub(r"[?].*", "", url)
    last = path.rstrip("/").rpartition("/")[2]
    if last.endswith((".whl", ".tar.gz", ".zip")):
        return re.split(r"-(?=\d)", last)[0]
    # repository.git@branch; another page than a repository is no package.
    is_repository = "+" in url.partition("://")[0]
    return last.partition("@")[0].removesuffix(".git") if is_repository else ""
