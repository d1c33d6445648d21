"""How projects with PostgreSQL are measured: a database and a server are made for each.

The database runs on the load's core, so the server has its own for itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import loads
from benchmarks.measures import DJANGO, Conditions, measure_http, started
from benchmarks.model import Sample
from benchmarks.postgresql import running_postgresql
from benchmarks.processes import BenchmarkError, Server, run
from benchmarks.servers import Launch, module

CONNECTIONS = 100
"""PostgreSQL's default; the load has 32 requests on their way."""
TOKEN = "benchmarks" * 3 + "ok"
"""A token against forged requests, as long as Django's; in the cookie and the form."""

REALISTIC = replace(
    DJANGO,
    application="benchmarks.realistic.asgi:application",
    project="benchmarks.realistic",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A request that the realistic project gets."""

    name: str
    title: str
    path: str
    proof: str
    """What an answer must have in its content, or in its Location."""
    method: str = "GET"
    body: str = ""
    is_logged_in: bool = True


VIEWS = {
    view.name: view
    for view in (
        View(
            name="page",
            title="Page of 20 articles, anonymous",
            path="/",
            proof="Log in",
            is_logged_in=False,
        ),
        View(
            name="account",
            title="Page of 20 articles, logged in",
            path="/account/",
            proof="written",
        ),
        View(
            name="api",
            title="API list of 20 rows, logged in",
            path="/api/articles/",
            proof='"count":200',
        ),
        View(
            name="post",
            title="POST that writes the session and a row",
            path="/comment/",
            proof="/account/",
            method="POST",
            body=f"csrfmiddlewaretoken={TOKEN}&article=1&text=Well+said",
        ),
    )
}


@contextlib.contextmanager
def with_database(
    launch: Launch, conditions: Conditions
) -> Iterator[tuple[Launch, list[str]]]:
    """Make a PostgreSQL with the project's rows; yield what its preparing printed."""
    with running_postgresql(CONNECTIONS) as cluster:
        launch = replace(
            launch, django=str(conditions.folder), postgresql=str(cluster.folder)
        )
        environ = (f"{key}={value}" for key, value in launch.environ.items())
        command = ["env", *environ, *module(f"{launch.project}.prepare")]
        output = run(command, conditions.load_core, 120)
        yield launch, output.splitlines()


def measure_postgresql(server: str, conditions: Conditions, *, path: str) -> Sample:
    """Measure a view of the small project with PostgreSQL in place of SQLite."""
    with with_database(DJANGO, conditions) as (launch, _):
        return measure_http(server, conditions, launch=launch, path=path)


class Rounds:
    """What has been measured of the realistic project, by server: a start for each.

    The first figure that is asked for in a round measures all; the others take theirs
    from it, so that not each of them starts the server again.
    """

    def __init__(self) -> None:
        self._rounds: dict[str, list[dict[tuple[str, str], Sample]]] = {}
        self._taken: Counter[tuple[str, str, str]] = Counter()

    def take(
        self, server: str, conditions: Conditions, *, view: str, figure: str
    ) -> Sample:
        """Return a view's "rate", with the CPU time in it, or its "p99" in ms."""
        rounds = self._rounds.setdefault(server, [])
        number = self._taken[server, view, figure]
        if number == len(rounds):
            rounds.append(measure_realistic(server, conditions))
        self._taken[server, view, figure] += 1
        return rounds[number][view, figure]


def measure_realistic(
    server: str, conditions: Conditions
) -> dict[tuple[str, str], Sample]:
    """Start a server; return the figures of all views, each proved beforehand."""
    found: dict[tuple[str, str], Sample] = {}
    with with_database(REALISTIC, conditions) as (launch, printed):
        sessions = json.loads(printed[-1])
        with started(server, launch, conditions) as running:
            for view in VIEWS.values():
                prove(view, running.port, sessions[0])
                found |= _load(view, running, conditions, sessions)
    return found


def _load(
    view: View, running: Server, conditions: Conditions, sessions: list[str]
) -> dict[tuple[str, str], Sample]:
    script = conditions.folder / f"{view.name}.lua"
    write_script(script, view, sessions)
    load = partial(
        loads.wrk_script,
        running.url + view.path,
        core=conditions.load_core,
        script=script,
    )
    with contextlib.suppress(BenchmarkError):
        # On a busy machine the first second may end before anything is answered.
        load(1)
    percentiles = []

    def measure(begin: object) -> float:
        rate, percentile = load(conditions.seconds)
        percentiles.append(percentile)
        return rate

    rate, busy = running.busy_during(measure)
    return {
        (view.name, "rate"): Sample(rate, busy),
        (view.name, "p99"): Sample(percentiles[0]),
    }


def cookies(view: View, session: str) -> dict[str, str]:
    """Return the headers of a client that has a session, if the view is for such."""
    if not view.is_logged_in:
        return {}
    return {"Cookie": f"sessionid={session}; csrftoken={TOKEN}"}


def headers(view: View, session: str) -> dict[str, str]:
    """Return the headers of a request by a browser with this session."""
    form = {"Content-Type": "application/x-www-form-urlencoded"} if view.body else {}
    return {**cookies(view, session), **form}


def prove(view: View, port: int, session: str) -> None:
    """Make one request; raises BenchmarkError unless it does what it is to do."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        client.request(view.method, view.path, view.body, headers(view, session))
        answer = client.getresponse()
        text = answer.read().decode(errors="replace") + (
            answer.headers["Location"] or ""
        )
    finally:
        client.close()
    is_redirect_to_login = "/login/" in (answer.headers["Location"] or "")
    if answer.status >= 400 or is_redirect_to_login or view.proof not in text:
        raise BenchmarkError(f"{view.path} answered {answer.status}: {text[-300:]}")


def write_script(path: Path, view: View, sessions: list[str]) -> None:
    """Write what wrk runs: the requests of all sessions, one after the other."""
    text = "\n".join(
        f"  add({json.dumps(view.method)}, {json.dumps(view.path)}, "
        f"{_lua_table(headers(view, session))}, {json.dumps(view.body)})"
        for session in (sessions if view.is_logged_in else sessions[:1])
    )
    path.write_text(
        "local requests, number = {}, 0\n"
        "local function add(method, path, headers, body)\n"
        '  headers["Host"] = wrk.headers["Host"]\n'
        '  if body == "" then body = nil end\n'
        "  requests[#requests + 1] = wrk.format(method, path, headers, body)\n"
        "end\n"
        f"function init()\n{text}\nend\n"
        "function request()\n"
        "  number = number % #requests + 1\n"
        "  return requests[number]\n"
        "end\n",
        "utf-8",
    )


def _lua_table(values: dict[str, str]) -> str:
    fields = (f"[{json.dumps(key)}] = {json.dumps(values[key])}" for key in values)
    return f"{{{', '.join(fields)}}}"
