"""What a Compose file gives the commands of its services: their environment.

The lines are read as people write them: no anchors are followed, and no YAML library
is needed. What is not understood is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_KEY = re.compile(
    r"^(?P<indent> *)(?P<key>[\w.-]+|\"[^\"]*\"|'[^']*'):(?P<rest>\s.*|)$"
)
_ITEM = re.compile(r"^\s*-\s+(?P<text>.*)$")
_PAIR = re.compile(r"[\"']?(?P<name>[A-Za-z_]\w*)[\"']?\s*[:=]\s*(?P<value>.*)$")
_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_QUOTED = re.compile(r"((?:[^\"'#]*(?:\"[^\"]*\"|'[^']*'))*)(.*)", re.DOTALL)
_FLOW = re.compile(r"(?:\"[^\"]*\"|'[^']*'|[^,\"'])+")


@dataclass(slots=True)
class ComposeService:
    """One service: its lines, and what they say."""

    name: str
    first: int
    end: int
    has_command: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    """Variables with a value; those that are passed on have none."""
    files: list[str] = field(default_factory=list)
    """Of variables, in the order in which they are read."""


def read_services(lines: Sequence[str]) -> list[ComposeService]:
    """Return the services of a Compose file, none for any other YAML."""
    services = []
    for key, first, end in _children(lines, 0, len(lines)):
        if key != "services":
            continue
        for name, begin, stop in _children(lines, first + 1, end):
            service = ComposeService(name, begin, stop)
            for part, start, finish in _children(lines, begin + 1, stop):
                _read_part(service, part, lines[start:finish])
            services.append(service)
    return services


def _children(
    lines: Sequence[str], first: int, end: int
) -> Iterator[tuple[str, int, int]]:
    """Yield the keys of a block, each with its first line and the line after it."""
    found: list[tuple[str, int]] = []
    depth: int | None = None
    for number in range(first, end):
        match = _KEY.match(lines[number])
        if match is None:
            continue
        depth = len(match["indent"]) if depth is None else depth
        if len(match["indent"]) == depth:
            found.append((_unquote(match["key"]), number))
    for index, (key, number) in enumerate(found):
        yield key, number, found[index + 1][1] if index + 1 < len(found) else end


def _read_part(service: ComposeService, key: str, lines: Sequence[str]) -> None:
    if key in ("command", "entrypoint"):
        service.has_command = True
    elif key == "environment":
        for text in _texts(lines):
            pair = _PAIR.match(text)
            if pair and (value := _unquote(pair["value"].strip())):
                service.environment[pair["name"]] = value
    elif key == "env_file":
        for text in _texts(lines):
            # An item may be a mapping: "path: x.env", "required: false".
            name = re.sub(r"^path:\s+", "", text)
            if not re.match(r"(required|format):", name):
                service.files.append(_unquote(name))


def _texts(lines: Sequence[str]) -> Iterator[str]:
    """Yield the entries of a list, or of a mapping, in any of their forms."""
    value = _strip(lines[0].partition(":")[2])
    if not value and len(lines) > 1 and lines[1].strip()[:1] in ("[", "{"):
        value, lines = _strip(lines[1]), lines[1:]
    if value[:1] in ("[", "{"):
        whole = " ".join([value, *map(_strip, lines[1:])]).strip("[]{} ")
        for match in _FLOW.finditer(whole):
            yield _whole(match[0].strip())
        return
    if value and value[0] != "&":
        yield value
    for line in lines[1:]:
        text = _strip(line)
        item = _ITEM.match(text)
        if item:
            text = item["text"]
        if text:
            yield _whole(text)


def _strip(line: str) -> str:
    """Return a line without its comment; what is quoted has none."""
    quoted, rest = _QUOTED.match(line.strip()).groups()  # type: ignore[union-attr]
    return f"{quoted}{_COMMENT.sub('', rest)}".strip()


def _whole(text: str) -> str:
    """Return an entry that is quoted as a whole without its quotes."""
    return _unquote(text) if text.count(text[:1]) == 2 else text


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text
