"""Daphne's command line. Its flags are djserve's, with the same names."""

from __future__ import annotations

from djserve.doctor.rules import (
    Draft,
    FlagRule,
    KnownServer,
    Outcome,
    needless,
    special,
    switch,
    to,
    translated,
)
from djserve.doctor.uvicorn import host, port

PROXIES = (
    "Only the proxies in --trusted-proxies are believed, by default those of this "
    "machine; name the network of a proxy elsewhere."
)


def _endpoint(draft: Draft, value: str) -> Outcome:
    if value.startswith("ssl:"):
        note = (
            "--certfile and --keyfile bring HTTP/2 and certificates that are reloaded."
        )
        return translated(draft.add("--bind", value), note)
    return translated(draft.add("--bind", value))


def _ping_interval(draft: Draft, value: str) -> Outcome:
    note = "0 turns pings off; Daphne pings without a pause." if value == "0" else ""
    return translated(draft.add("--websocket-ping-interval", value), note)


def _finish(draft: Draft) -> list[Outcome]:
    outcomes = []
    is_quiet = "--verbosity 0" in " ".join(draft.words)
    if "--access-log" not in draft.seen and not is_quiet:
        words = draft.add("--access-log", "-")
        note = "Daphne writes the access log to standard output; djserve if asked."
        outcomes.append(translated(words, note))
    return outcomes


RULES: tuple[FlagRule, ...] = (
    special("-p --port", port, "the port of `--bind`"),
    special("-b --bind", host, "`--bind`", name="host"),
    special(
        "-u --unix-socket",
        lambda draft, value: translated(draft.add("--bind", f"unix:{value}")),
        "`--bind unix:PATH`",
    ),
    special(
        "--fd",
        lambda draft, value: translated(draft.add("--bind", f"fd://{value}")),
        "`--bind fd://N`",
    ),
    special("-e --endpoint", _endpoint, "`--bind`", "Twisted's endpoint strings work."),
    to("--websocket_timeout", "--websocket_timeout", "Daphne ends it after a day."),
    to("--websocket_connect_timeout", "--websocket_connect_timeout"),
    to("-v --verbosity", "--verbosity"),
    to("-t --http-timeout", "--http-timeout"),
    to("--access-log", "--access-log"),
    to("--log-fmt", "--log-format"),
    special("--ping-interval", _ping_interval, "`--websocket-ping-interval`"),
    to("--ping-timeout", "--ping-timeout"),
    to("--websocket-max-message-size", "--websocket-max-message-size"),
    to("--websocket-max-frame-size", "--websocket-max-frame-size"),
    to(
        "--application-close-timeout",
        "--application-close-timeout",
        "0 lets the application keep running; Daphne ends it at once.",
    ),
    to("--root-path", "--root-path"),
    switch("--proxy-headers", "--proxy-headers", PROXIES),
    to("--proxy-headers-host", "--proxy-headers-host"),
    to("--proxy-headers-port", "--proxy-headers-port"),
    to("-s --server-name", "--server-name"),
    switch("--no-server-name", "--no-server-name"),
    needless("-h --help", "`--help` and `--help-all`.", values="0"),
)

DEFAULTS = (
    "One process: --workers auto uses every CPU, and restarts without a gap.",
    "A request's body is not read whole before the application starts; uploads are "
    "bounded by --body-size-limit (2 GiB).",
    "Pages of other sites may open no WebSocket: ALLOWED_HOSTS and "
    "CSRF_TRUSTED_ORIGINS say which may.",
    "After SIGTERM requests have --shutdown-timeout (30 s) to finish; Daphne ends them "
    "at once.",
)

SERVER = KnownServer("daphne", RULES, _finish, DEFAULTS)
