"""PROCESSES: programs that the supervisor runs alongside the workers, read and checked.

In the settings they are a dictionary of dictionaries, on the command line and in a
variable ``NAME=COMMAND``. What is wrong is returned as a ``Fault`` for each, so that
the parser reports all of them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from djserve.postponed import pattern
from djserve.values import Values

OWN_NAME = "workers"
"""What the web workers are called among the names of processes."""

LARGEST_COUNT = 1024
"""Of one kind of process: far more than CPUs, and far less than a machine dies of."""

EXAMPLE = '{"tasks": {"command": ["db_worker"], "count": 2}}'

_NAME = pattern(r"[A-Za-z][A-Za-z0-9_.-]*")
_LONGEST_NAME = 40


class ProcessConfig(Values, kw_only=True):
    """One entry of PROCESSES.

    Either ``command``, a management command, or ``program``, any other one, is given,
    as a list of words. ``count`` of them run, and each has ``stop_timeout`` seconds
    from SIGTERM to SIGKILL. With ``overlap`` new ones are started before old ones are
    stopped; otherwise there are never more than ``count``. ``runserver`` runs it too,
    unless that is False.
    """

    name: str
    command: tuple[str, ...] = ()
    program: tuple[str, ...] = ()
    count: int = 1
    stop_timeout: float = 30.0
    overlap: bool = False
    runserver: bool = True

    @property
    def words(self) -> str:
        """Return what is run, as it is typed."""
        import shlex

        return shlex.join(self.command or self.program)


class Fault(NamedTuple):
    """A value that is wrong: where it stands, what was expected there, what is."""

    place: str
    expected: str
    got: object


KEYS = tuple(field.name for field in fields(ProcessConfig) if field.name != "name")


def read_processes(
    place: str, given: Mapping[Any, Any]
) -> tuple[tuple[ProcessConfig, ...], list[Fault]]:
    """Return the processes that a dictionary describes, and what is wrong in it."""
    found: list[ProcessConfig] = []
    faults: list[Fault] = []
    for name, entry in given.items():
        reading = _Entry(f"{place}[{name!r}]", name)
        process = reading.read(entry)
        faults += reading.faults
        if process is not None and not reading.faults:
            found.append(process)
    return tuple(found), faults


def split_flag(text: str) -> tuple[str, dict[str, list[str]]]:
    """Return the name and the entry that ``NAME=COMMAND`` stands for.

    Raises ValueError.
    """
    import shlex

    check_flag(text)
    name, _, words = text.partition("=")
    return name.strip(), {"command": shlex.split(words)}


def check_flag(text: str) -> None:
    """Raise ValueError for a text that is not ``NAME=COMMAND``."""
    import shlex

    _, separator, words = text.partition("=")
    if not separator:
        raise ValueError("the name is missing")
    shlex.split(words)


class _Entry:
    """One entry as it is read; ``faults`` is what is wrong in it."""

    def __init__(self, place: str, name: object) -> None:
        self._place = place
        self._name = name
        self.faults: list[Fault] = []

    def read(self, entry: object) -> ProcessConfig | None:
        self._check_name()
        if not isinstance(entry, Mapping):
            self._refuse("", f"a dictionary as in {EXAMPLE}", entry)
            return None
        for key in entry:
            if key not in KEYS:
                self._refuse(key, _suggest_key(key), entry[key])
        values = {
            key: self._read_value(key, entry[key]) for key in entry if key in KEYS
        }
        given = [key for key in ("command", "program") if key in entry]
        if len(given) != 1:
            expected = "either 'command' (a management command) or 'program'"
            self._refuse("", expected, sorted(map(str, entry)))
        if self.faults:
            return None
        return ProcessConfig(name=str(self._name), **values)

    def _check_name(self) -> None:
        name = self._name
        is_name = isinstance(name, str) and _NAME.fullmatch(name)
        if not is_name or len(str(name)) > _LONGEST_NAME:
            expected = (
                f"a name of at most {_LONGEST_NAME} letters, digits, '_', '-' and '.'"
            )
            self._refuse("", expected, name)
        elif name == OWN_NAME:
            self._refuse("", "another name than that of the web workers", name)

    def _read_value(self, key: str, value: Any) -> Any:
        read = {
            "command": self._read_words,
            "program": self._read_words,
            "count": self._read_count,
            "stop_timeout": self._read_seconds,
        }.get(key, self._read_switch)
        return read(key, value)

    def _read_words(self, key: str, value: Any) -> tuple[str, ...]:
        expected = 'a list of words as in ["db_worker", "--queue-name", "default"]'
        if not isinstance(value, list | tuple) or not value:
            self._refuse(key, expected, value)
            return ()
        for word in value:
            if not isinstance(word, str) or "\0" in word:
                self._refuse(key, expected, value)
                return ()
        if not value[0]:
            self._refuse(key, expected, value)
        return tuple(value)

    def _read_count(self, key: str, value: Any) -> int:
        is_bool = isinstance(value, bool)
        if is_bool or not isinstance(value, int) or not 0 <= value <= LARGEST_COUNT:
            self._refuse(key, f"a whole number from 0 to {LARGEST_COUNT}", value)
            return 0
        return value

    def _read_seconds(self, key: str, value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 10**9:
            self._refuse(key, "seconds as a number from 0 up", value)
            return 0.0
        return float(value)

    def _read_switch(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self._refuse(key, "True or False", value)
        return bool(value)

    def _refuse(self, key: object, expected: str, got: object) -> None:
        place = f"{self._place}[{key!r}]" if key else self._place
        self.faults.append(Fault(place, expected, got))


def _suggest_key(key: object) -> str:
    # Long to import, for a mistake.
    import difflib

    close = difflib.get_close_matches(str(key).lower(), KEYS, n=1)
    if close:
        return f"the key {close[0]!r}"
    return "one of the keys " + ", ".join(map(repr, KEYS))


def describe_processes(processes: tuple[ProcessConfig, ...]) -> Iterator[str]:
    """Yield each as the start-up message has it: ``tasks (2)``."""
    for process in processes:
        yield f"{process.name} ({process.count})"
