"""What was found of a project, as text for its owner."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from djserve.conf.masking import hide_secrets
from djserve.doctor.advice import (
    Advice,
    advise_packages,
    advise_place,
    advise_proxies,
    advise_settings,
    advise_units,
    advise_variables,
)
from djserve.doctor.files import Files, Start, find_manage, read_files
from djserve.doctor.rules import Kind, Outcome
from djserve.doctor.translate import (
    NoServer,
    Translation,
    translate,
)
from djserve.doctor.words import Unreadable

_WIDTH = 88


def describe_translation(
    translation: Translation, *, with_defaults: bool = True
) -> str:
    """Return one translated command line: the command first, then each flag.

    ``with_defaults`` adds what the server does otherwise without being asked.
    """
    lines = [translation.command, ""]
    for problem in translation.problems:
        lines += _wrap("  correct: ", problem)
    for kind in Kind:
        for outcome in translation.outcomes:
            if outcome.kind is kind:
                lines += _describe(outcome)
    if with_defaults and translation.defaults:
        lines += ["", f"What differs from {translation.server} by default:"]
        for each in translation.defaults:
            lines += _wrap("  - ", each)
    return "\n".join(lines)


def _describe(outcome: Outcome) -> list[str]:
    given = outcome.given or "by default"
    if outcome.kind is Kind.TRANSLATED:
        note = f"  ({outcome.note})" if outcome.note else ""
        return _wrap("  ", f"{given}  ->  {outcome.becomes}{note}")
    note = f": {outcome.note}" if outcome.note else ""
    return _wrap("  ", f"{given}  {outcome.kind.value}{note}")


def _wrap(lead: str, text: str) -> list[str]:
    # Flags are not split at their hyphens.
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * (len(lead) + 2),
        break_on_hyphens=False,
        break_long_words=False,
    )


def examine(folder: Path, settings: Any, failure: str = "") -> str:
    """Return the report on a project.

    ``settings`` are Django's, or None if there are none; ``failure`` says why.
    Reports are pasted into tickets: ``***`` stands for secrets in commands.
    """
    files = read_files(folder)
    manage = find_manage(folder) or ("manage.py" if settings is not None else "")
    lines = ["For djserve to serve this project. Nothing has been changed."]
    translations: list[Translation] = []
    for start, result in _translate_all(files, folder, manage):
        lines += ["", f"{start.path}:{start.line}", f"  {start.text}"]
        if isinstance(result, str):
            lines += _wrap("  ", result)
            continue
        # What differs is the same for each command of a server.
        is_first = all(each.server != result.server for each in translations)
        translations.append(result)
        text = describe_translation(result, with_defaults=is_first)
        lines += ["becomes", textwrap.indent(text, "  ")]
        if start.is_list:
            lines += _as_list(result.command)
    if not translations:
        command = f"python {manage} runasgi" if manage else "djserve module:application"
        lines += ["", "No file starts a server that is known. The command is:"]
        lines += ["", f"  {command} --bind 0.0.0.0:8000 --workers auto"]
    advice = [
        *advise_packages(files),
        *advise_proxies(files),
        *advise_units(files),
        *advise_variables(files),
        *advise_place(folder, files),
    ]
    if settings is not None:
        advice += advise_settings(settings, files, translations)
    lines += _list("To change", [each for each in advice if each.is_change])
    lines += _list("To know", [each for each in advice if not each.is_change])
    unreadable = [*files.unreadable, *([failure] if failure else [])]
    lines += _list("Not read", [Advice(*_split(each)) for each in unreadable])
    return hide_secrets("\n".join(lines).strip())


def _as_list(command: str) -> list[str]:
    words = shlex.split(command)
    if "&&" in words:
        # As in "cd /app && python ...": the server takes the shell's place.
        before, _, last = command.rpartition(" && ")
        line = f"{before} && exec {last}"
        return ["  As a list:", f"  {json.dumps(['sh', '-c', line])}"]
    return ["  As a list, without a shell:", f"  {json.dumps(words)}"]


def _split(text: str) -> tuple[str, str]:
    where, _, rest = text.partition(": ")
    return where, " ".join(rest.split())


def _translate_all(
    files: Files, folder: Path, manage: str
) -> Iterator[tuple[Start, Translation | str]]:
    for start in files.starts:
        try:
            yield start, translate(start.text, folder=folder, manage=manage)
        except Unreadable as error:
            yield start, f"It cannot be read: {error}"
        except NoServer:
            # The name of a server that is not started there.
            continue


def _list(title: str, advice: list[Advice]) -> list[str]:
    if not advice:
        return []
    lines = ["", f"{title}:"]
    for each in dict.fromkeys(advice):
        lines += _wrap("  - ", f"{each.where}: {each.text}")
    return lines
