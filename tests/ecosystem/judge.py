"""Turn a run into counts and faults, and two runs into a verdict."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.ecosystem.client import Answer, Run
from tests.ecosystem.package import Package
from tests.ecosystem.users import (
    DEFAULT_LANGUAGE,
    DEFAULT_ZONE,
    MESSAGES,
    SOCKETS,
    User,
)

FAILURE = re.compile(r"^[\w.]*Failure: (user\d+)$", re.MULTILINE)
TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Findings:
    """What was counted in a run, and what is wrong with it."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def judge(run: Run, package: Package) -> Findings:
    """Return what a run has shown.

    A fault is anything with another user's name, language, time zone or id, an answer
    that is not as its call has it, and a count that is not what it must be.
    """
    findings = Findings()
    for answer in run.answers:
        _judge_answer(answer, findings)
    for user, message in run.messages:
        _judge_surroundings(user, message, findings, socket=True)
        findings.counts["messages"] += 1
    for entry in run.records:
        _judge_record(entry, findings)
    _judge_log(run, package, findings)
    _compare_counts(findings, expected_counts(run, package))
    return findings


def expected_counts(run: Run, package: Package) -> dict[str, int]:
    """Return what must be counted: the usual, and what the package says."""
    usual = {"responses": len(package.calls())}
    if package.sockets:
        usual["messages"] = SOCKETS * MESSAGES
    failures = sum(call.status == 500 for call in package.calls())
    if package.logged_failures and failures:
        usual["tracebacks"] = failures
    known = package.known if run.server == "uvicorn" else {}
    return {
        name: count
        for name, count in {**usual, **package.expected}.items()
        if name not in known
    }


def verdict(ours: Findings, theirs: Findings) -> str:
    """Return how the first run compares with the second, Uvicorn's."""
    if ours.faults:
        return "different"
    if ours.counts == theirs.counts and not theirs.faults:
        return "same"
    return "better"


def _judge_answer(answer: Answer, findings: Findings) -> None:
    call, name = answer.call, answer.call.user.name
    if answer.status != call.status:
        findings.faults.append(
            f"{call.method} {call.path} of {name} has status {answer.status}, "
            f"not {call.status}: {answer.body[:200]!r}"
        )
        return
    findings.counts["responses"] += 1
    if call.check == "shown":
        if not answer.shown:
            findings.faults.append(f"{call.path} of {name} shows nothing")
        for shown in answer.shown:
            _judge_surroundings(call.user, shown, findings)
    elif call.check == "name" and name not in answer.body:
        findings.faults.append(f"{call.path} lacks {name}: {answer.body[:200]!r}")
    if others := _other_names(f"{answer.headers}{answer.body}", name):
        findings.faults.append(f"{call.path} of {name} shows {others}")


def _judge_surroundings(
    user: User, shown: dict[str, Any], findings: Findings, *, socket: bool = False
) -> None:
    right = {
        "who": {user.name},
        # The context variable may still be the socket's from its last message.
        "before": {"", user.name} if socket else {""},
        "language": {DEFAULT_LANGUAGE if socket else user.language or DEFAULT_LANGUAGE},
        "zone": {DEFAULT_ZONE if socket else user.zone or DEFAULT_ZONE},
    }
    for name, values in right.items():
        if shown[name] not in values:
            where = "a socket" if socket else "a view"
            findings.faults.append(
                f"{where} of {user.name} has {name} {shown[name]!r}, not {values}"
            )
    for name, value in shown["seen"].items():
        _judge_record({"kind": name, "right": user.name, "seen": value}, findings)


def _judge_record(entry: dict[str, Any], findings: Findings) -> None:
    kind, right, seen = entry["kind"], entry["right"], entry["seen"]
    names = {seen} if isinstance(seen, str) else set(seen or [])
    names.discard("")
    if names - {right}:
        findings.faults.append(f"{kind} of {right} has {sorted(names)}")
    elif names == {right}:
        findings.counts[kind] += 1
    else:
        findings.counts[f"{kind} without a user"] += 1


def _judge_log(run: Run, package: Package, findings: Findings) -> None:
    """Count tracebacks: one of each view that raises, and no other."""
    if not package.logged_failures:
        return
    log = re.sub(package.noise, "", run.log) if package.noise else run.log
    failures = FAILURE.findall(log)
    findings.counts["tracebacks"] = len(failures)
    if (tracebacks := log.count(TRACEBACK)) != len(failures):
        findings.faults.append(
            f"{tracebacks} tracebacks for {len(failures)} failures: see {run.place}"
        )
    if len(set(Counter(failures).values())) > 1:
        findings.faults.append("the log has some failures more often than others")


def _compare_counts(findings: Findings, expected: dict[str, int]) -> None:
    for name, count in expected.items():
        if findings.counts[name] != count:
            findings.faults.append(
                f"{findings.counts[name]} {name}, not {count}"
                f" (all: {dict(findings.counts)})"
            )


def _other_names(text: str, name: str) -> list[str]:
    return sorted(set(re.findall(r"user\d{3}", text)) - {name})
