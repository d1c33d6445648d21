"""What becomes of another server's flags: the rules, and how a command line is read.

A rule says what one flag becomes: flags of djserve, nothing since it is not needed, or
nothing since there is no equivalent. The tables of the servers hold rules; the pages of
the documentation are written from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

STATSD = "The metrics have djserve's names, and are sent every 10 seconds."


class Kind(Enum):
    """What happened to a flag."""

    TRANSLATED = "translated"
    NEEDLESS = "not needed"
    MISSING = "no equivalent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One flag of the command line, and what became of it."""

    kind: Kind
    given: str
    becomes: str = ""
    note: str = ""


@dataclass(slots=True)
class Draft:
    """The command line for djserve, as far as it is known."""

    words: list[str] = field(default_factory=list)
    host: str = ""
    port: str = ""
    application: str = ""
    attribute: str = "application"
    is_factory: bool = False
    is_wsgi: bool = False
    directory: str = ""
    path: str = ""
    env_file: str = ""
    environment: list[str] = field(default_factory=list)
    config: str | None = None
    worker_class: str = ""
    socket_user: str = ""
    socket_group: str = ""
    routes: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    metrics_host: str = ""
    metrics_port: str = ""
    seen: set[str] = field(default_factory=set)

    def add(self, *words: str) -> str:
        """Append words, and return them as text."""
        self.words += words
        return " ".join(word or "''" for word in words)


Apply = Callable[[Draft, str], Outcome]


@dataclass(frozen=True, slots=True)
class FlagRule:
    """One flag of another server, under all of its names.

    ``values`` is how many words it takes: "0", "1", "2" or "?" (one unless a flag
    follows).
    ``name`` is its key in a configuration file. ``becomes`` and ``note`` are the row
    of the documentation.
    """

    flags: tuple[str, ...]
    kind: Kind
    becomes: str = ""
    note: str = ""
    values: str = "1"
    name: str = ""
    apply: Apply | None = None

    @property
    def title(self) -> str:
        return self.flags[-1] if self.flags else self.name


def to(flags: str, target: str, note: str = "", *, name: str = "") -> FlagRule:
    """A flag with a value that is the target's value as it is."""

    def apply(draft: Draft, value: str) -> Outcome:
        return Outcome(Kind.TRANSLATED, "", draft.add(target, value), note)

    becomes = f"`{target}`"
    return FlagRule(
        tuple(flags.split()), Kind.TRANSLATED, becomes, note, name=name, apply=apply
    )


def switch(flags: str, target: str, note: str = "", *, name: str = "") -> FlagRule:
    """A flag without a value that is another flag without one."""

    def apply(draft: Draft, value: str) -> Outcome:
        return Outcome(Kind.TRANSLATED, "", draft.add(target), note)

    names, becomes = tuple(flags.split()), f"`{target}`"
    return FlagRule(names, Kind.TRANSLATED, becomes, note, "0", name, apply)


def special(
    flags: str,
    apply: Apply,
    becomes: str,
    note: str = "",
    *,
    values: str = "1",
    name: str = "",
) -> FlagRule:
    """A flag whose value has to be read."""
    names = tuple(flags.split())
    return FlagRule(names, Kind.TRANSLATED, becomes, note, values, name, apply)


def needless(flags: str, why: str, *, values: str = "1", name: str = "") -> FlagRule:
    """A flag that asks for what djserve does anyway, or for what it does not have."""
    return FlagRule(tuple(flags.split()), Kind.NEEDLESS, "", why, values, name)


def missing(flags: str, why: str, *, values: str = "1", name: str = "") -> FlagRule:
    """A flag without an equivalent; ``why`` says what to do instead."""
    return FlagRule(tuple(flags.split()), Kind.MISSING, "", why, values, name)


def translated(becomes: str, note: str = "") -> Outcome:
    return Outcome(Kind.TRANSLATED, "", becomes, note)


def unneeded(note: str) -> Outcome:
    return Outcome(Kind.NEEDLESS, "", "", note)


def lacking(note: str) -> Outcome:
    return Outcome(Kind.MISSING, "", "", note)


def statsd_host_becomes(draft: Draft, value: str) -> Outcome:
    address = value.replace("unix://", "unix:")
    return translated(draft.add("--statsd", address), STATSD)


def statsd_tags_become(draft: Draft, value: str) -> Outcome:
    tags = [tag for tag in value.replace(" ", "").split(",") if tag]
    return translated(" ".join(draft.add("--statsd-tags", tag) for tag in tags))


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server whose command lines are understood.

    ``finish`` adds what the server does without being asked. ``has_file``: the names of
    the rules are keys of its configuration file. With ``variables`` it takes its flags
    from environment variables that begin so; ``variable_flags`` are those whose names
    are not the flags' own. ``arrange`` rewrites the arguments before they are read.
    With ``is_wsgi`` it serves no ASGI application. ``attribute`` is what it serves of
    a module that is named alone. ``keys_are_flags``: its ini file has
    the flags' names as keys. ``page`` is the guide with the table, if the server's name
    does not say it.
    """

    name: str
    rules: tuple[FlagRule, ...]
    finish: Callable[[Draft], list[Outcome]]
    defaults: tuple[str, ...] = ()
    abbreviates: bool = True
    has_file: bool = False
    variables: str = ""
    variable_flags: Mapping[str, str] = field(default_factory=dict)
    arrange: Callable[[Sequence[str]], list[str]] = list
    is_wsgi: bool = False
    attribute: str = "application"
    keys_are_flags: bool = False
    page: str = ""

    @property
    def guide(self) -> str:
        """The name of the guide with the server's flags."""
        return self.page or f"from-{self.name}.md"

    def read_variable(self, name: str, value: str) -> list[str]:
        """Return the words that an environment variable stands for, [] for another."""
        if not self.variables or not name.startswith(self.variables):
            return []
        flag = self.variable_flags.get(name)
        if flag is None:
            flag = f"--{name.removeprefix(self.variables).lower().replace('_', '-')}"
        rule = self.find(flag)
        if rule is None or rule.values != "0":
            return [f"{flag}={value}"] if rule else []
        if value.lower() in ("1", "true", "t", "yes", "y", "on"):
            return [flag]
        off = f"--no-{flag.removeprefix('--')}"
        return [off] if self.find(off) else []

    def find(self, flag: str) -> FlagRule | None:
        """Return the rule of a flag, or of the only flag that it abbreviates."""
        for rule in self.rules:
            if flag in rule.flags:
                return rule
        if not self.abbreviates or not flag.startswith("--"):
            return None
        # argparse takes the beginning of a flag if only one begins so.
        found = [
            rule
            for rule in self.rules
            if any(known.startswith(flag) for known in rule.flags)
        ]
        return found[0] if len(found) == 1 else None

    def find_setting(self, name: str) -> FlagRule | None:
        """Return the rule of a key in the server's configuration file."""
        if self.keys_are_flags:
            return self.find(f"--{name}")
        return next((rule for rule in self.rules if rule.name == name), None)


@dataclass(frozen=True, slots=True)
class Given:
    """A flag as it was given: its rule, None if there is none, and its value."""

    flag: str
    rule: FlagRule | None
    value: str
    text: str


def read_arguments(
    server: KnownServer, words: Sequence[str]
) -> tuple[list[Given], list[str]]:
    """Return the flags and the positional arguments of a command line."""
    given: list[Given] = []
    positional: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return given, positional + rest
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        given.append(_read_flag(server, word, rest, has_application=bool(positional)))
    return given, positional


def _read_flag(
    server: KnownServer, word: str, rest: list[str], *, has_application: bool
) -> Given:
    """Return one flag, taking its value from ``rest`` if it is there."""
    flag, equals, value = word.partition("=")
    rule = server.find(flag)
    if rule is None and not word.startswith("--") and len(word) > 2:
        rule, flag, equals, value = _read_cluster(server, word, rest)
    if rule is None:
        # A value that follows cannot be told from the application's name.
        may_be_value = bool(rest) and not rest[0].startswith("-")
        if not equals and may_be_value and (has_application or ":" not in rest[0]):
            value = rest.pop(0)
        return Given(
            flag, None, value, f"{word} {value}".rstrip() if not equals else word
        )
    if equals or rule.values == "0":
        return Given(flag, rule, value, word)
    is_missing = not rest or (rule.values == "?" and rest[0].startswith("-"))
    if not is_missing:
        value = rest.pop(0)
    if rule.values == "2" and rest:
        value = f"{value} {rest.pop(0)}"
    return Given(flag, rule, value, f"{word} {value}".rstrip())


def _read_cluster(
    server: KnownServer, word: str, rest: list[str]
) -> tuple[FlagRule | None, str, str, str]:
    """Read ``-w4`` as a flag with its value, and ``-Dw4`` as two flags."""
    flag, more = word[:2], word[2:]
    rule = server.find(flag)
    if rule is not None and rule.values == "0":
        rest.insert(0, f"-{more}")
        return rule, flag, "", ""
    return rule, flag, "=", more
