"""uWSGI's command line and its ini file: the options that projects have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from djserve.doctor.gunicorn import START_BY_MANAGER, bind, configuration
from djserve.doctor.rules import (
    Draft,
    FlagRule,
    KnownServer,
    Outcome,
    lacking,
    missing,
    needless,
    special,
    switch,
    to,
    translated,
    unneeded,
)
from djserve.doctor.uvicorn import LOGGING, RELOAD, recycle
from djserve.doctor.wsgi import (
    CLOSING,
    DEFAULTS,
    ENVIRONMENT,
    body_size,
    directory,
    header_size,
    module_of,
    mount_folder,
    path,
    threads,
)

_PROTOCOL = "The proxy speaks HTTP to it: proxy_pass http://..., not uwsgi_pass."
_BESIDE = "PROCESSES runs other programs alongside the workers; see the guide to tasks."
_SCALE = "The number of workers is fixed; manage.py djserve scale changes it."
_GREEN = (
    "Nothing is patched: synchronous views run in threads, up to 256 while they wait. "
    "Remove what calls monkey.patch_all()."
)
_RELOAD_FILE = "manage.py djserve reload, or SIGHUP, loads the new code."
_PLUGINS = "Python is all that is served."
_SUPERVISED = "Workers end with their supervisor, and it replaces those that end."
_QUIET = "Clients that leave are no errors."


def _bind(draft: Draft, value: str) -> Outcome:
    draft.seen.add("address")
    return bind(draft, value)


def _socket(draft: Draft, value: str) -> Outcome:
    address = value if ":" in value or value.isdigit() else f"unix:{value}"
    outcome = _bind(draft, address)
    return translated(outcome.becomes, _PROTOCOL)


def _https(draft: Draft, value: str) -> Outcome:
    address, *files = value.split(",")
    words = [_bind(draft, address).becomes]
    for flag, file in zip(("--certfile", "--keyfile"), files, strict=False):
        words.append(draft.add(flag, file))
    return translated(" ".join(words))


def _module(draft: Draft, value: str) -> Outcome:
    name, _, attribute = module_of(value).partition(":")
    # The callable may have been named before.
    attribute = attribute or draft.application.partition(":")[2]
    draft.application = f"{name}:{attribute}" if attribute else name
    return translated(draft.application)


def _callable(draft: Draft, value: str) -> Outcome:
    draft.application = f"{draft.application.partition(':')[0]}:{value}"
    return translated(value, "It stands behind the module.")


def _mount(draft: Draft, value: str) -> Outcome:
    prefix, _, application = value.partition("=")
    draft.application = module_of(application)
    if prefix in ("", "/"):
        return translated(draft.application)
    return translated(f"{draft.add('--root-path', prefix)} {draft.application}")


def _processes(draft: Draft, value: str) -> Outcome:
    if re.search(r"%k|nproc|cpu", value, re.IGNORECASE):
        return translated(draft.add("--workers", "auto"), "One for each CPU.")
    return translated(draft.add("--workers", value))


def _harakiri(draft: Draft, value: str) -> Outcome:
    if value == "0":
        return unneeded("Requests are not bounded by default.")
    note = "The request is answered with 503, and its worker lives on."
    return translated(draft.add("--request-timeout", value), note)


def _memory(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--worker-max-memory", f"{value}MiB"))


def _chmod(draft: Draft, value: str) -> Outcome:
    if not value:
        return unneeded("A unix socket's mode is 666 by default (--unix-mode).")
    return translated(draft.add("--unix-mode", value))


def _static_map(draft: Draft, value: str) -> Outcome:
    prefix, _, folder = value.partition("=")
    return mount_folder(draft, prefix, folder)


def _static_index(draft: Draft, value: str) -> Outcome:
    if value != "index.html":
        return lacking("--files-index serves index.html, and no other name.")
    return translated(draft.add("--files-index"))


def _header(draft: Draft, value: str) -> Outcome:
    return translated(draft.add("--header", value))


def _environment(draft: Draft, value: str) -> Outcome:
    draft.environment.append(value)
    return translated(f"env {value}", "Environment= in a systemd unit.")


def _mercy(draft: Draft, value: str) -> Outcome:
    if "--shutdown-timeout" in draft.words:
        return unneeded("--shutdown-timeout is for all of them.")
    return translated(draft.add("--shutdown-timeout", value))


def _reload(draft: Draft, value: str) -> Outcome:
    if value == "0":
        return unneeded("It is the default.")
    return translated(draft.add("--reload"), RELOAD)


def _arrange(words: Sequence[str]) -> list[str]:
    """Name what uWSGI knows by its look: an ini file, and a socket."""
    arranged: list[str] = []
    for index, word in enumerate(words):
        follows_flag = bool(index) and words[index - 1].startswith("-")
        if not follows_flag and word.endswith(".ini"):
            arranged.append("--ini")
        elif not follows_flag and re.fullmatch(r"[\w.]*:\d+", word):
            arranged.append("--socket")
        arranged.append(word)
    return arranged


def _finish(draft: Draft) -> list[Outcome]:
    return []


RULES: tuple[FlagRule, ...] = (
    special("--ini", configuration, "its settings, translated"),
    missing("--yaml --yml -y", "Translate its keys as flags: --from 'uwsgi --KEY'."),
    missing("--json -j", "Translate its keys as flags: --from 'uwsgi --KEY'."),
    missing("--xml -x", "Translate its keys as flags: --from 'uwsgi --KEY'."),
    special("--http --http-socket --http11-socket", _bind, "`--bind`"),
    special("--https --https-socket", _https, "`--bind`, `--certfile`, `--keyfile`"),
    special("-s --socket --uwsgi-socket", _socket, "`--bind`", _PROTOCOL),
    missing("--fastcgi-socket --scgi-socket", "Have the proxy speak HTTP."),
    special("-w --module --wsgi", _module, "the application"),
    special("--wsgi-file --file", _module, "the application"),
    special("--callable", _callable, "the application"),
    special("--mount", _mount, "`--root-path` and the application"),
    needless("--manage-script-name", "--root-path does that.", values="0"),
    special("-p --processes --workers", _processes, "`--workers`"),
    special("--threads", threads, "`--threads`", "The default follows the views."),
    needless("-M --master", "With several workers there is a supervisor.", values="0"),
    needless("-T --enable-threads", "Threads of the project run.", values="0"),
    special("-t --harakiri", _harakiri, "`--request-timeout`"),
    needless(
        "--harakiri-verbose",
        "The stack of a worker that hangs is logged.",
        values="0",
    ),
    needless("--http-timeout", "No router stands in front of the workers."),
    needless("--socket-timeout", "--write-timeout bounds clients that do not read."),
    needless("--http-keepalive", CLOSING, values="?"),
    needless("--so-keepalive", CLOSING, values="0"),
    needless("--http-auto-chunked --http-chunked-input", "They work.", values="0"),
    needless("--http-websockets", "WebSockets are served.", values="0"),
    special("--chdir --chdir2", directory, "`cd DIRECTORY`"),
    special(
        "--pythonpath --python-path --pp",
        path,
        "`--app-dir`; manage.py: `--pythonpath`",
    ),
    needless("-H --home --virtualenv --venv --pyhome", ENVIRONMENT),
    special("--env", _environment, "`env NAME=VALUE`"),
    to("--uid", "--user"),
    to("--gid", "--group"),
    to("--pidfile --pidfile2 --safe-pidfile", "--pid-file"),
    missing("-d --daemonize --daemonize2", START_BY_MANAGER),
    missing("--logto --logto2", LOGGING),
    needless("-L --disable-logging", "The access log is off by default.", values="0"),
    missing("--log-format --logformat", "--access-log-format has Apache's atoms."),
    needless("--log-x-forwarded-for", "--proxy-headers does that.", values="0"),
    needless("--log-master --log-date", "--log-format sets the format.", values="?"),
    needless("--vacuum", "The files of sockets are removed at the end.", values="0"),
    needless("--die-on-term", "SIGTERM ends it.", values="0"),
    needless("--no-orphans", _SUPERVISED, values="0"),
    special("-R --max-requests", recycle, "`--worker-max-requests`"),
    needless("--max-requests-delta", "--worker-jitter is 10 per cent."),
    to("--max-worker-lifetime", "--worker-max-age"),
    needless("--min-worker-lifetime", "Workers that end at once are backed off."),
    special("--reload-on-rss --evil-reload-on-rss", _memory, "`--worker-max-memory`"),
    special("--worker-reload-mercy --reload-mercy", _mercy, "`--shutdown-timeout`"),
    special("-b --buffer-size", header_size, "`--header-size-limit`"),
    needless("--post-buffering", "Bodies are read as they come, and bounded."),
    special("--limit-post", body_size, "`--body-size-limit`"),
    to("-l --listen", "--backlog"),
    special("-C --chmod-socket", _chmod, "`--unix-mode`", values="?"),
    to("--chown-socket", "--unix-owner"),
    special("--static-map --static-map2", _static_map, "`--files PREFIX=FOLDER`"),
    special("--static-index", _static_index, "`--files-index`"),
    missing("--check-static", "--files PREFIX=FOLDER names what is served."),
    missing("--static-expires --static-expires-uri", "--files-max-age is for all."),
    needless("--offload-threads", "Files are sent by sendfile."),
    special("--add-header", _header, "`--header`"),
    missing("--touch-reload --touch-chain-reload", _RELOAD_FILE),
    missing("--master-fifo", "--control-socket, and manage.py djserve."),
    special("--py-autoreload --python-autoreload", _reload, "`--reload`", RELOAD),
    switch("--lazy-apps --lazy", "--no-preload"),
    needless("--single-interpreter -i", "There is one.", values="0"),
    needless("--need-app", "Nothing starts without its application.", values="0"),
    needless("--strict", "Unknown settings are refused.", values="0"),
    needless("--thunder-lock", "The workers share the sockets fairly.", values="0"),
    needless("--reuse-port", "The workers share the sockets.", values="0"),
    needless("--py-call-osafterfork", "Forks are Python's own.", values="0"),
    missing("--stats", "--metrics-bind for Prometheus; manage.py djserve status."),
    needless("--memory-report -m", "The metrics have it.", values="0"),
    missing("--cheaper --cheaper-initial --cheaper-step --cheaper-algo", _SCALE),
    missing("--gevent --asyncio --async", _GREEN),
    missing("--gevent-monkey-patch --ugreen", _GREEN, values="0"),
    missing("--mule --mules --farm --spooler", _BESIDE, values="?"),
    missing("--cron --unique-cron --attach-daemon --smart-attach-daemon", _BESIDE),
    missing("--emperor", "Each site has its own server and systemd unit."),
    missing("--cache2", "CACHES of Django's settings."),
    needless("--plugin --plugins --plugins-dir", _PLUGINS),
    needless("--auto-procname", "The extra production gives titles.", values="0"),
    needless("--procname --procname-prefix", "The extra production gives titles."),
    needless("--ignore-sigpipe --ignore-write-errors", _QUIET, values="0"),
    needless("--disable-write-exception", _QUIET, values="0"),
    needless("--version", "`--version`.", values="0"),
    needless("-h --help", "`--help` and `--help-all`.", values="0"),
)

SERVER = KnownServer(
    "uwsgi",
    RULES,
    _finish,
    (*DEFAULTS, "HTTP is spoken, and HTTP/2 with TLS; not the uwsgi protocol."),
    abbreviates=False,
    variables="UWSGI_",
    is_wsgi=True,
    page="from-uwsgi.md",
    arrange=_arrange,
    keys_are_flags=True,
)
