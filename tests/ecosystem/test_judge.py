"""The judge finds each kind of fault that the runs look for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ecosystem.client import Answer, Call, Run, usual_calls
from tests.ecosystem.judge import Findings, judge, verdict
from tests.ecosystem.package import Package
from tests.ecosystem.users import DEFAULT_LANGUAGE, DEFAULT_ZONE, MESSAGES, USERS, User


class Tracked(Package):
    name = "tracked"
    expected = {"transaction": 96}


def shown_to(user: User, **more: Any) -> dict[str, Any]:
    shown = {
        "who": user.name,
        "before": "",
        "language": user.language or DEFAULT_LANGUAGE,
        "zone": user.zone or DEFAULT_ZONE,
        "seen": {},
    }
    return {**shown, **more}


def answer(call: Call, **more: Any) -> Answer:
    import json

    body = json.dumps(shown_to(call.user, **more)) if call.check else "Server Error"
    return Answer(call, call.status, httpx.Headers(), body)


def right_run() -> Run:
    """Return a run without a fault."""
    run = Run("djserve", 0, Path())
    run.answers = [answer(call) for call in usual_calls()]
    for user in USERS[:12]:
        message = shown_to(user, language=DEFAULT_LANGUAGE, zone=DEFAULT_ZONE)
        run.messages += [(user, message)] * MESSAGES
    for call in usual_calls():
        run.add("transaction", call.user.name, [call.user.name])
        if call.status == 500:
            run.log += "Traceback (most recent call last):\n"
            run.log += f"project.Failure: {call.user.name}\n"
    return run


def test_right_run_has_no_faults() -> None:
    findings = judge(right_run(), Tracked())

    assert findings.faults == []
    assert findings.counts["transaction"] == findings.counts["responses"] == 96
    assert findings.counts["messages"] == 48
    assert findings.counts["tracebacks"] == 32


@pytest.mark.parametrize(
    "wrong",
    [
        {"who": USERS[7].name},
        {"before": USERS[7].name},
        {"language": "xx"},
        {"zone": "Asia/Kolkata"},
        {"seen": {"scope": [USERS[0].name, USERS[7].name]}},
        {"seen": {"other": USERS[7].name}},
    ],
    ids=str,
)
def test_view_with_another_users_data_is_a_fault(wrong: dict[str, Any]) -> None:
    run = right_run()
    run.answers[0] = answer(run.answers[0].call, **wrong)

    assert judge(run, Tracked()).faults


def test_field_with_another_user_is_a_fault() -> None:
    run = right_run()
    given = run.answers[0]
    cookie = httpx.Headers({"Set-Cookie": f"sessionid={USERS[9].session}"})
    run.answers[0] = Answer(given.call, given.status, cookie, given.body)

    assert judge(run, Tracked()).faults


def test_socket_with_a_views_time_zone_is_a_fault() -> None:
    run = right_run()
    user, message = run.messages[0]
    run.messages[0] = user, {**message, "zone": "Asia/Tokyo"}

    assert judge(run, Tracked()).faults


def test_record_with_another_user_is_a_fault() -> None:
    run = right_run()
    run.records[5]["seen"] = [USERS[5].name, USERS[6].name]

    assert judge(run, Tracked()).faults


def test_missing_record_is_a_fault() -> None:
    run = right_run()
    del run.records[5]

    assert judge(run, Tracked()).faults


def test_record_without_a_user_is_not_counted() -> None:
    run = right_run()
    run.records[5]["seen"] = ""

    findings = judge(run, Tracked())
    assert findings.counts["transaction"] == 95
    assert findings.faults


def test_wrong_status_is_a_fault() -> None:
    run = right_run()
    call = run.answers[0].call
    run.answers[0] = Answer(call, 503, httpx.Headers(), "")

    assert judge(run, Tracked()).faults


def test_traceback_of_another_fault_is_a_fault() -> None:
    run = right_run()
    run.log += "Traceback (most recent call last):\nValueError: something\n"

    assert judge(run, Tracked()).faults


def test_verdict_compares_two_runs() -> None:
    right, wrong = judge(right_run(), Tracked()), Findings(faults=["something"])

    assert verdict(right, right) == "same"
    assert verdict(right, wrong) == "better"
    assert verdict(wrong, right) == "different"
