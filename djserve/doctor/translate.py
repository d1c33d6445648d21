"""One command line of another server as one for djserve."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from djserve.conf.loader import merge_for_production
from djserve.conf.options import add_arguments, mapping_from_namespace
from djserve.conf.parser import parse
from djserve.doctor import (
    daphne,
    granian,
    gunicorn,
    hypercorn,
    mod_wsgi,
    uvicorn,
    uwsgi,
    waitress,
)
from djserve.doctor.config_file import Entry, read_config
from djserve.doctor.rules import (
    Draft,
    FlagRule,
    Given,
    Kind,
    KnownServer,
    Outcome,
    read_arguments,
)
from djserve.doctor.words import (
    Command,
    Unreadable,
    join,
    read_list,
    split_commands,
)
from djserve.doctor.wsgi import is_true, module_of
from djserve.errors import ConfigError

SERVERS = {
    each.name: each
    for each in (
        daphne.SERVER,
        uvicorn.SERVER,
        gunicorn.SERVER,
        hypercorn.SERVER,
        granian.SERVER,
        uwsgi.SERVER,
        waitress.SERVER,
        mod_wsgi.SERVER,
    )
}

# Programs whose arguments name packages or files, not what is to be run.
_NO_STARTERS = {
    "pip",
    "pip3",
    "apt",
    "apt-get",
    "apk",
    "echo",
    "which",
    "pgrep",
    "pkill",
}
_NO_STARTERS |= {
    "killall",
    "cat",
    "grep",
    "rm",
    "test",
    "conda",
    "export",
    "cp",
    "mkdir",
}
_WSGI = (
    "djserve serves ASGI: name an ASGI application, or WsgiToAsgi(application) of "
    "asgiref.wsgi."
)
_SHELLS = {"sh", "bash", "dash", "zsh", "ash", "powershell", "pwsh"}
_TAKES_LINE = re.compile(r"-\w*c|(?i:-command)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_PYTHON = re.compile(r"(?:python|pypy)w?[\d.]*$|py$")
# Python's own options before -m: letters in one word, -W and -X with a value.
_MODULE = re.compile(r"-[bBdEiIOPqRsSuvx]*m$")
_OPTIONS_WITH_VALUE = re.compile(r"-[bBdEiIOPqRsSuvx]*[WX]$|--check-hash-based-pycs$")

# What a configuration file computes of a variable that djserve reads, too.
_OF_PLATFORMS = {
    "bind": (
        r"['\"]PORT['\"]",
        "If the variable PORT is set, djserve listens on 0.0.0.0:$PORT by itself; "
        "otherwise give --bind.",
    ),
    "workers": (
        r"['\"]WEB_CONCURRENCY['\"]",
        "djserve reads WEB_CONCURRENCY by itself; without it give --workers.",
    ),
}


@dataclass(frozen=True, slots=True)
class Translation:
    """A command for djserve, and what became of each flag.

    ``problems`` are what djserve would refuse of the command.
    """

    server: str
    given: str
    command: str
    words: tuple[str, ...]
    application: str
    outcomes: tuple[Outcome, ...]
    defaults: tuple[str, ...]
    problems: tuple[str, ...] = ()


class NoServer(ValueError):
    """No server that is known stands in the command line."""


def translate(
    line: str, *, folder: Path | None = None, manage: str = ""
) -> Translation:
    """Return the command line for djserve.

    ``folder`` is where configuration files are looked for. ``manage`` is the project's
    manage.py, for whose runasgi the command is. Raises NoServer, or Unreadable.
    """
    asking = ""
    commands = split_commands(_without_instruction(line))
    for number, command in enumerate(commands):
        found = find_server(command.words)
        if found is not None and _asks(command.words[sum(found[:2]) :], found[2]):
            asking = asking or join(command.words)
            continue
        if found is not None:
            index, length, server = found
            result = _translate(line, command, index, length, server, folder, manage)
            return replace(
                result, problems=(*result.problems, *_name_others(commands[number:]))
            )
        script = _find_script(command.words)
        if script is not None:
            try:
                inner = translate(command.words[script], folder=folder, manage=manage)
            except NoServer:
                continue
            words = list(command.words)
            words[script] = inner.command
            text = command.before + join(words) + command.after
            return replace(inner, given=line, command=text)
    if asking:
        raise NoServer(f"{asking} shows a text, and starts no server")
    names = ", ".join(SERVERS)
    raise NoServer(f"no command of a server that is known ({names}) in: {line.strip()}")


def _without_instruction(line: str) -> str:
    """Return a line of a Dockerfile, or a list of words, as a shell would have it."""
    text = re.sub(r"^\s*(?:CMD|ENTRYPOINT)\s+", "", line, flags=re.IGNORECASE)
    # "[ -f .env ]" is a test of the shell's: a list has no space there, or has quotes.
    if not re.fullmatch(r"\[\s*([\"'].*|\w+,.*)\]", text.strip(), re.DOTALL):
        return text
    words = read_list(text.strip())
    return join([str(word) for word in words]) if isinstance(words, list) else text


def _asks(arguments: Sequence[str], server: str) -> bool:
    """Return whether a server is asked for its help or version, and starts nothing."""
    given, _ = read_arguments(SERVERS[server], arguments)
    asked = {flag for each in given if each.rule for flag in each.rule.flags}
    return not asked.isdisjoint({"--help", "--version"})


def _name_others(commands: Sequence[Command]) -> list[str]:
    """Return what to do about further servers that a line starts."""
    return [
        f"a further server in the line, to be translated by itself: {join(each.words)}"
        for each in commands[1:]
        if find_server(each.words) is not None
    ]


def translate_words(
    words: Sequence[str], *, folder: Path | None = None, manage: str = ""
) -> Translation:
    """Return the same for words that no shell reads."""
    return translate(join(words), folder=folder, manage=manage)


def find_server(words: Sequence[str]) -> tuple[int, int, str] | None:
    """Return where the server's program stands, how many words name it, and which.

    None if the command starts none.
    """
    if not words or _basename(words[0]) in _NO_STARTERS:
        return None
    if len(words) > 1 and _basename(words[0]) == "uv" and words[1] == "pip":
        return None
    for index, word in enumerate(words):
        name = _basename(word)
        if name not in SERVERS:
            continue
        start = _find_python(words[:index])
        if start is not None:
            return start, index + 1 - start, name
        if index and words[index - 1] in ("install", "add", "--with", "-m"):
            continue
        return index, 1, name
    return None


def _find_python(words: Sequence[str]) -> int | None:
    """Return where ``python [options] -m`` begins, at the end of these words."""
    if not words or not _MODULE.match(words[-1]):
        return None
    for start in range(len(words) - 2, -1, -1):
        if _is_python(words[start]):
            return start
        is_value = start and _OPTIONS_WITH_VALUE.match(words[start - 1])
        if not words[start].startswith("-") and not is_value:
            return None
    return None


def _basename(word: str) -> str:
    name = re.split(r"[/\\]", word.rstrip("/\\"))[-1]
    return name[:-4].lower() if name.lower().endswith(".exe") else name


def _folder_of(program: str) -> str:
    """Return what stands before a program's name, with the separator."""
    return program[: max(program.rfind("/"), program.rfind("\\")) + 1]


def _is_python(word: str) -> bool:
    return bool(_PYTHON.match(_basename(word)))


def _find_script(words: Sequence[str]) -> int | None:
    """Return which word is a line for a shell, as in ``sh -c "..."``."""
    for index, word in enumerate(words[:-2]):
        if _basename(word) in _SHELLS and _TAKES_LINE.fullmatch(words[index + 1]):
            return index + 2
    return None


def _translate(
    line: str,
    command: Command,
    index: int,
    length: int,
    name: str,
    folder: Path | None,
    manage: str,
) -> Translation:
    server = SERVERS[name]
    words = list(command.words)
    before, program = words[:index], words[index : index + length]
    arguments = words[index + length :]
    draft = Draft(attribute=server.attribute)
    outcomes: list[Outcome] = []
    before, extra = _take_variables(name, before)
    arguments = server.arrange([*extra, *arguments])
    given, positional = read_arguments(server, arguments)
    entries, failures = _read_configuration(server, given, folder)
    outcomes += failures
    named = [each.rule for each in given if each.rule is not None]
    # Of the address only what is listened on counts: a socket takes its place.
    for each in sorted(_last_of_each(given), key=lambda each: not _is_socket(each)):
        outcomes.append(_apply(server, draft, each))
    for entry in entries:
        if server.find_setting(entry.name) not in named:
            outcomes += _apply_entry(server, draft, entry)
    outcomes += server.finish(draft)
    outcomes += _judge_positional(positional)
    application = _find_application(positional, entries) or draft.application
    application = _take_interface(draft, application)
    outcomes += _choose_application(draft, application)
    draft.is_wsgi |= server.is_wsgi
    is_asgi = manage or re.search(r"(?<![^.])asgi(?=:|$)", application)
    if draft.is_wsgi and not is_asgi and draft.application == application:
        outcomes.append(Outcome(Kind.MISSING, application, note=_WSGI))
    _add_addresses(draft)
    manage = _seen_from(manage, draft.directory, command.before)
    result = _compose(draft, program, manage)
    text = command.before + _prefix(draft) + join([*before, *result]) + command.after
    problems = _find_problems(draft.words)
    return Translation(
        name,
        line,
        text,
        tuple(draft.words),
        draft.application,
        tuple(outcomes),
        server.defaults,
        tuple(problems),
    )


def _take_variables(name: str, before: list[str]) -> tuple[list[str], list[str]]:
    """Return what stands before the program, without the server's flags in it."""
    kept: list[str] = []
    arguments: list[str] = []
    for word in before:
        variable, _, value = word.partition("=")
        if name == "gunicorn" and variable == "GUNICORN_CMD_ARGS":
            for command in split_commands(value):
                arguments += command.words
        elif words := SERVERS[name].read_variable(variable, value):
            arguments += words
        else:
            kept.append(word)
    if kept != before and kept[:1] == ["env"] and not _is_for_env(kept[1:]):
        kept = kept[1:]
    return kept, arguments


def _is_for_env(words: list[str]) -> bool:
    """Return whether a word is an option or a variable, and "env" is needed for it."""
    return bool(words) and bool(words[0][:1] == "-" or _ASSIGNMENT.match(words[0]))


def _last_of_each(given: list[Given]) -> list[Given]:
    """Return the flags that count: the last of each, all of those that add up."""
    repeatable = {"-b", "--bind", "-e", "--env", "--endpoint", "--header"}
    repeatable |= {"--reload-dir", "--reload-extra-file", "--reload-include"}
    repeatable |= {"--reload-exclude", "--paste-global", "--dirty-app"}
    repeatable |= {"--insecure-bind", "--quic-bind", "--server-name", "--reload-paths"}
    repeatable |= {"--static-path-route", "--static-path-mount", "--ssl-crl"}
    repeatable |= {"--http", "--http-socket", "--socket", "--static-map"}
    repeatable |= {"--env", "--add-header", "--listen", "--url-alias", "--https"}
    repeatable |= {"--trust-proxy"}
    last = {each.rule or each.flag: each for each in given}
    return [
        each
        for each in given
        if each.flag in repeatable or each.rule is None or last[each.rule] is each
    ]


def _apply(server: KnownServer, draft: Draft, given: Given) -> Outcome:
    rule = given.rule
    if rule is None:
        return Outcome(Kind.UNKNOWN, given.text, note=_suggest(server, given.flag))
    draft.seen |= {*rule.flags, rule.name}
    if rule.values == "1" and not given.value and "=" not in given.text:
        return Outcome(Kind.UNKNOWN, given.text, note="A value is missing.")
    return replace(_run(rule, draft, given.value), given=given.text)


def _suggest(server: KnownServer, flag: str) -> str:
    """Return which flag was probably meant, by its letters without the hyphens."""
    flags = {name.strip("-"): name for each in server.rules for name in each.flags}
    close = get_close_matches(flag.strip("-"), flags, n=1)
    return f"Did you mean {flags[close[0]]}?" if close else ""


def _run(rule: FlagRule, draft: Draft, value: str) -> Outcome:
    if rule.apply is None:
        return Outcome(rule.kind, "", "", rule.note)
    return rule.apply(draft, value)


def _apply_entry(server: KnownServer, draft: Draft, entry: Entry) -> list[Outcome]:
    """Apply one key of a configuration file."""
    rule = server.find_setting(entry.name)
    given = (
        f"{entry.name} = {entry.source}" if entry.values is not None else entry.source
    )
    if rule is None:
        # In a program it is a helper: a variable, a function.
        return [Outcome(Kind.UNKNOWN, given)] if server.keys_are_flags else []
    draft.seen.add(entry.name)
    if entry.values is None and not entry.source.startswith("def "):
        given = f"{entry.name} = {entry.source}"
        if entry.name == "workers" and "cpu_count" in entry.source:
            return [replace(_run(rule, draft, entry.source), given=given)]
        pattern, by_itself = _OF_PLATFORMS.get(entry.name, ("", ""))
        if pattern and re.search(pattern, entry.source):
            return [Outcome(Kind.NEEDLESS, given, "", by_itself)]
        if rule.apply is not None:
            target = rule.becomes.replace("`", "")
            note = f"It is computed (line {entry.line}): give its value with {target}."
            return [Outcome(Kind.MISSING, given, "", note)]
    values = entry.values or ()
    if server.keys_are_flags and rule.values == "0":
        # All of an ini file is text.
        values = tuple("" for each in values if is_true(each))
        if not values:
            return []
    if rule.apply is None:
        return [Outcome(rule.kind, given, "", rule.note)]
    return [replace(_run(rule, draft, each), given=given) for each in values]


def _read_configuration(
    server: KnownServer, given: list[Given], folder: Path | None
) -> tuple[list[Entry], list[Outcome]]:
    """Return the configuration file: the one that is named, or gunicorn's default."""
    if folder is None:
        return [], []
    name = next((each.value for each in reversed(given) if _is_config(each)), "")
    directory = next((each.value for each in given if each.flag == "--chdir"), "")
    default = "gunicorn.conf.py" if server.name == "gunicorn" else ""
    if not name and not default:
        return [], []
    path = _locate(name or default, folder, directory)
    if path is None:
        problem = "The file is not there: translate it with the folder that has it."
        return [], [Outcome(Kind.MISSING, name, "", problem)] if name else []
    try:
        return read_config(path), []
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        return [], [Outcome(Kind.MISSING, str(path), "", f"It cannot be read: {error}")]


def _is_socket(given: Given) -> bool:
    return given.rule is not None and given.rule.apply in uvicorn.SOCKETS


def _is_config(given: Given) -> bool:
    return given.rule is not None and given.rule.apply is gunicorn.configuration


def _locate(name: str, folder: Path, directory: str) -> Path | None:
    """Return the file: ``path``, ``file:path`` or ``python:module``."""
    name = name.removeprefix("file:")
    if name.startswith("python:"):
        name = name.removeprefix("python:").replace(".", "/") + ".py"
    for top in (folder, folder / directory):
        path = top / name
        if path.is_file():
            return path
    # Inside an image the project is elsewhere.
    path = folder / os.path.basename(name)
    return path if path.is_file() else None


def _judge_positional(positional: list[str]) -> list[Outcome]:
    return [
        Outcome(Kind.UNKNOWN, each, note="Another argument than the application.")
        for each in positional[1:]
        if not _ASSIGNMENT.match(each)
    ]


def _find_application(positional: list[str], entries: list[Entry]) -> str:
    if positional:
        return positional[0]
    values = next((each.values for each in entries if each.name == "wsgi_app"), None)
    return values[0] if values else ""


def _take_interface(draft: Draft, name: str) -> str:
    """Return the name without the interface that Hypercorn takes before it."""
    found = re.match(r"(asgi|wsgi):(?=[^:]+:[^:]+$)", name)
    if found is None:
        return name
    draft.is_wsgi |= found[1] == "wsgi"
    return name[found.end() :]


def _choose_application(draft: Draft, name: str) -> list[Outcome]:
    """Take the ASGI application next to a WSGI one, as Django's projects have it."""
    module = module_of(name)
    draft.application = re.sub(r"(?<![^.])wsgi(?=:application$|$)", "asgi", module)
    if draft.application == name:
        return []
    note = "djserve serves ASGI: the same project, by the asgi.py next to its wsgi.py."
    if draft.application == module:
        note = "The module in that file."
    return [Outcome(Kind.TRANSLATED, name, draft.application, note)]


def _add_addresses(draft: Draft) -> None:
    """Put host and port, which are two flags elsewhere, into one address."""
    if draft.host or draft.port:
        host = draft.host or "127.0.0.1"
        if ":" in host and not host.startswith(("[", "$")):
            host = f"[{host}]"
        draft.words[:0] = ["--bind", f"{host}:{draft.port or '8000'}"]


def _prefix(draft: Draft) -> str:
    return f"cd {join([draft.directory])} && " if draft.directory else ""


def _seen_from(manage: str, directory: str, before: str) -> str:
    """Return manage.py as it is found after a change of the folder."""
    folder, _, name = manage.rpartition("/")
    change = rf"\bcd\s+\S*\b{re.escape(folder)}/?\s*(?:&&|;|\n)"
    if folder and (directory.strip("./") == folder or re.search(change, before)):
        return name
    return manage


def _compose(draft: Draft, program: list[str], manage: str) -> list[str]:
    """Return the words of the command."""
    environment = ["env", *draft.environment] if draft.environment else []
    folder = _folder_of(program[0])
    if manage:
        python = [f"{folder}python"]
        if len(program) > 1:
            python = _interpreter(program)
        words = [*python, manage, "runasgi"]
        if draft.path:
            words += ["--pythonpath", draft.path]
        return [*environment, *words, *draft.words]
    words = [f"{folder}djserve"]
    if len(program) > 1:
        words = [*_interpreter(program), "-m", "djserve"]
    if draft.path:
        words += ["--app-dir", draft.path]
    if draft.env_file:
        words += ["--env-file", draft.env_file]
    application = draft.application or "module:application"
    factory = re.fullmatch(r"([\w.]+:[\w.]+)\(\)", application)
    if factory:
        application, draft.is_factory = factory[1], True
    if ":" not in application:
        application += f":{_attribute(draft, application)}"
    if draft.is_factory:
        words.append("--factory")
    kept = _without_threads(draft.words)
    return [*environment, *words, *kept, application]


def _interpreter(program: list[str]) -> list[str]:
    """Return the Python of ``python -u -m server`` with its options."""
    options, last = program[1:-2], program[-2].removesuffix("m")
    return [program[0], *options, *([] if last == "-" else [last])]


def _attribute(draft: Draft, module: str) -> str:
    """Return what the server serves of a module that is named alone."""
    # Django's own modules have no other.
    is_django = module.rpartition(".")[2] in ("asgi", "wsgi")
    return "application" if is_django else draft.attribute


def _without_threads(words: list[str]) -> list[str]:
    """Leave out what is a setting of manage.py runasgi alone."""
    if "--threads" not in words:
        return words
    index = words.index("--threads")
    return [*words[:index], *words[index + 2 :]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError([message])


def _find_problems(words: list[str]) -> list[str]:
    """Return what djserve would say of these words, but for what a shell expands."""
    if any("$" in word or "`" in word for word in words):
        return []
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    try:
        given = mapping_from_namespace(parser.parse_args(words))
        parse(merge_for_production({}, given))
    except ConfigError as error:
        # Certificates are where the server will run.
        return [each for each in error.problems if "file" not in each.lower()]
    return []


__all__ = ["SERVERS", "NoServer", "Translation", "Unreadable", "translate"]
