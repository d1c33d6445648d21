"""The faults: what is done, what clients may see of it, what the log has to say."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.faults import acts, machine
from tests.faults.acts import ALONE, HANGS, TWO
from tests.faults.bench import Bench
from tests.faults.site import BROKEN, SOURCE


@dataclass(frozen=True)
class Row:
    """One fault. ``sees`` are outcomes besides 200 that clients may have."""

    group: str
    name: str
    act: Callable[[Bench], None]
    log: str = ""
    sees: tuple[str, ...] = ()
    is_quick: bool = False
    needs: Callable[[], bool] = lambda: True
    """Return whether this machine has what the row takes."""


EXCEPTIONS = (
    "ValueError",
    "OSError",
    "BrokenPipeError",
    "TimeoutError",
    "MemoryError",
    "RecursionError",
    "StopAsyncIteration",
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "CancelledError",
    "BaseExceptionGroup",
    "OwnBase",
)
_KILL, _STOP = signal.SIGKILL, signal.SIGSTOP
_TERM, _QUIT = signal.SIGTERM, signal.SIGQUIT
_CUT = ("reset", "refused")
# Small in any case: the disk is filled.
_NO_BLOCKS, _NO_INODES = "size=4k", "size=4k,nr_inodes=2"

ROWS = [
    Row(
        "Serving", "a worker is killed", partial(acts.to_worker, _KILL), "SIGKILL", _CUT
    ),
    Row(
        "Serving",
        "a worker is stopped",
        partial(acts.to_worker, _STOP),
        "blocked for",
        _CUT,
    ),
    Row("Serving", "a worker gets SIGTERM", partial(acts.to_worker, _TERM), "", _CUT),
    Row(
        "Serving",
        "a worker crashes in a request (SIGSEGV)",
        partial(acts.by_request, "/kill/11"),
        "SIGSEGV",
        _CUT,
    ),
    Row(
        "Serving",
        "a request calls os._exit(0)",
        partial(acts.by_request, "/exit"),
        "ended",
        _CUT,
    ),
    Row(
        "Serving",
        "a request blocks a worker's event loop",
        partial(acts.by_request, "/block"),
        "app.py",
        _CUT,
    ),
    Row("Serving", "all workers are killed", acts.all_workers, "SIGKILL", _CUT),
    Row(
        "Serving",
        "the loader is killed, then a worker",
        partial(acts.to_loader, _KILL),
        "SIGKILL",
        _CUT,
    ),
    Row(
        "Serving",
        "the loader is stopped, then a worker killed",
        partial(acts.to_loader, _STOP),
        "",
        _CUT,
    ),
    Row("Serving", "the supervisor is killed", acts.to_supervisor, "", _CUT),
    Row("Serving", "the supervisor is stopped, and runs on", acts.supervisor_stopped),
    Row("Serving", "all processes stand still for 3 s", acts.machine_sleeps),
    Row(
        "Serving",
        "the one process is killed",
        acts.alone_killed,
        "",
        _CUT,
        is_quick=True,
    ),
    Row(
        "Serving",
        "the clock jumps a year ahead, and back",
        partial(acts.clock_jumps, "+365d"),
        needs=acts.FAKETIME.exists,
    ),
    Row(
        "Serving",
        "the clock jumps a year back, and ahead",
        partial(acts.clock_jumps, "-365d"),
        needs=acts.FAKETIME.exists,
    ),
    *(
        Row(
            "Container",
            f"{what}, {name}",
            act,
            sees=_CUT,
            is_quick="loads" in what and options is ALONE,
            needs=machine.has_namespaces,
        )
        for name, options, code in (("one process", ALONE, 143), ("workers", TWO, 0))
        for what, act in (
            (
                "process 1 gets SIGTERM while the code loads",
                partial(machine.ends_while_loading, options, code),
            ),
            (
                "process 1 gets two SIGTERM, and a request never ends",
                partial(machine.ends_at_once, options),
            ),
        )
    ),
    Row(
        "Container",
        "processes that the application left behind end",
        partial(machine.leaves_orphans, TWO),
        sees=_CUT,
        needs=machine.has_namespaces,
    ),
    *(
        Row(
            "Container",
            f"the machine has just been started, {name}",
            partial(machine.has_just_begun, options),
            "planned",
            needs=machine.has_namespaces,
        )
        for name, options in (("one process", ALONE), ("workers", (*TWO, *acts.SOON)))
    ),
    *(
        Row(
            "Disk",
            f"the disk of {name} is full at the start",
            partial(machine.full_disk, options, code, sizes),
            log,
            ("refused",),
            needs=machine.has_namespaces,
        )
        for name, options, code, sizes, log in (
            (
                "the process id file",
                (*ALONE, "--pid-file", "full/pid"),
                2,
                _NO_BLOCKS,
                "PID_FILE .*No space left",
            ),
            (
                "the control socket",
                (*TWO, "--control-socket", "full/socket"),
                1,
                _NO_INODES,
                "CONTROL_SOCKET.*No space left",
            ),
            (
                "the certificates",
                (*ALONE, *acts.ACME, "--acme-folder", "full/acme"),
                2,
                _NO_INODES,
                "ACME_FOLDER.*No space left",
            ),
        )
    ),
    Row(
        "Names",
        "an address's name is not answered for",
        partial(machine.name_is_not_found, (*ALONE, "--bind", "nowhere.example:0")),
        "cannot be resolved",
        ("refused",),
        needs=machine.has_namespaces,
    ),
    Row(
        "Names",
        "the name of StatsD's receiver is not answered for",
        partial(
            machine.name_of_a_receiver_is_not_found,
            (*TWO, "--statsd", "nowhere.example:8125", "--statsd-interval", "1"),
        ),
        "No metrics reach StatsD",
        ("refused",),
        needs=machine.has_namespaces,
    ),
    *(
        Row(
            "Start",
            f"{name} is a FIFO that no process has opened",
            partial(acts.fifo_is_in_place, (*ALONE, option)),
            log,
            ("refused",),
            is_quick,
        )
        for name, option, log, is_quick in (
            ("the access log", "--access-log", "ACCESS_LOG .* FIFO", True),
            ("the process id file", "--pid-file", "PID_FILE .* FIFO", False),
            ("the certificate", "--certfile", "--certfile: .* FIFO", False),
            ("the environment file", "--env-file", "--env-file .* FIFO", False),
        )
    ),
    *(
        Row(
            "Start",
            f"the code does not load: {why}",
            partial(
                acts.fails_to_start,
                (*TWO, *(HANGS if why == "hang" else ())),
                code,
                BROKEN[why],
            ),
            log,
            ("refused",),
            is_quick,
        )
        for why, code, log, is_quick in (
            ("syntax error", 2, "SyntaxError", True),
            ("exception", 2, "planned", False),
            ("exit", 2, "SystemExit", False),
            ("no application", 2, "no attribute", False),
            ("hang", 1, "WORKER_START_TIMEOUT", False),
            ("start-up", 3, "planned", False),
        )
    ),
    *(
        Row(
            "Start",
            f"{name} cannot be written",
            partial(acts.fails_to_start, (*ALONE, option, path), 2, SOURCE),
            log,
            ("refused",),
            is_quick,
        )
        for name, option, path, log, is_quick in (
            ("the access log", "--access-log", "/nowhere/log", "cannot be op", True),
            ("the process id file", "--pid-file", "/nowhere/pid", "PID_FILE", False),
            ("the pid file (a device)", "--pid-file", "/dev/full", "PID_FILE", False),
        )
    ),
    Row(
        "Start",
        "the certificate is missing",
        partial(acts.fails_to_start, (*ALONE, "--certfile", "/nowhere"), 2, SOURCE),
        "(?i)certfile",
        ("refused",),
        True,
    ),
    Row("Start", "the port is taken", acts.port_taken, "in use", ("refused",)),
    Row(
        "Start",
        "SIGTERM while the code loads",
        partial(acts.while_loading, _TERM, 0, "supervisor"),
        "",
        ("refused",),
    ),
    Row(
        "Start",
        "the loader is killed while it loads",
        partial(acts.while_loading, _KILL, 1, "loader"),
        "SIGKILL",
        ("refused",),
    ),
    Row(
        "Start",
        "the supervisor is killed while the code loads",
        partial(acts.while_loading, _KILL, -_KILL, "supervisor"),
        "",
        ("refused",),
    ),
    Row("Reload", "nothing is wrong", acts.reload_plain),
    *(
        Row(
            "Reload",
            f"the new code does not load: {why}",
            partial(acts.reload_fails, why),
        )
        for why in ("syntax error", "exit", "hang", "start-up", "start-up that hangs")
    ),
    Row(
        "Reload",
        "the new loader is killed while it loads",
        partial(acts.reload_loader, _KILL),
        "SIGKILL",
    ),
    Row(
        "Reload",
        "the new loader is stopped while it loads",
        partial(acts.reload_loader, _STOP),
        "WORKER_START_TIMEOUT",
    ),
    Row(
        "Drain",
        "a request never ends, SIGQUIT alone",
        acts.quit_at_once,
        "at once",
        _CUT,
        True,
    ),
    *(
        Row(
            "Drain",
            f"a request never ends{name}",
            partial(acts.drain, options, number, target),
            log,
            _CUT,
        )
        for name, options, number, target, log in (
            ("", TWO, None, "", "still open"),
            ("; one process", ALONE, None, "", "still open"),
            (", second SIGTERM", TWO, _TERM, "supervisor", "at once"),
            (", then SIGQUIT", TWO, _QUIT, "supervisor", "at once"),
            (", a worker is killed", TWO, _KILL, "worker", "Stopping"),
            (", a worker is stopped", TWO, _STOP, "worker", "Stopping"),
            (", the loader is killed", TWO, _KILL, "loader", "Stopping"),
            (", the loader is stopped", TWO, _STOP, "loader", "Stopping"),
            (", the supervisor is killed", TWO, _KILL, "supervisor", "Stopping"),
        )
    ),
    Row("Disk", "the access log's disk is full", acts.full_log, "No space left"),
    Row(
        "Disk",
        "the access log's disk is full, then not",
        acts.full_then_free,
        "File too large; lines are lost",
        (),
        True,
    ),
    Row(
        "Disk", "the error log's disk is full", acts.full_error_log, "", ("500",), True
    ),
    Row(
        "Pipe",
        "the access log's reader is gone",
        partial(acts.pipe, True),
        "Broken pipe",
        (),
        True,
    ),
    Row("Pipe", "the access log's reader reads nothing", partial(acts.pipe, False)),
    Row(
        "Pipe",
        "the error log's reader is gone",
        acts.no_error_log,
        sees=("500",),
        is_quick=True,
    ),
    Row(
        "Disk",
        "the disk is full while an upload is written to it",
        acts.upload,
        "File too large",
        ("500",),
        True,
    ),
    Row(
        "Limits",
        "the process has no memory left",
        acts.memory,
        "MemoryError",
        ("500",),
        True,
    ),
    Row(
        "Services",
        "PostgreSQL is down, then up",
        acts.postgresql_down,
        "OperationalError",
        ("500",),
        needs=acts.has_postgresql,
    ),
    Row(
        "Services",
        "PostgreSQL restarts while a query runs",
        acts.postgresql_restarts,
        "OperationalError",
        ("500",),
        needs=acts.has_postgresql,
    ),
    Row("Limits", "no descriptors are left", acts.descriptors, "RLIMIT_NOFILE", _CUT),
    Row(
        "Limits",
        "a request asks for more memory than there is",
        partial(acts.request_fails, "/memory", "500"),
        "MemoryError",
        ("500",),
        True,
    ),
    Row("Services", "Redis is down, then up", acts.redis, "ConnectionError", ("500",)),
    Row(
        "Services",
        "the certificate's file becomes rubbish",
        partial(acts.certificate, "rubbish"),
        "[Cc]ert",
    ),
    Row(
        "Services",
        "the certificate's file is removed",
        partial(acts.certificate, None),
        "[Cc]ert",
        (),
        True,
    ),
    *(
        Row(
            "Exceptions",
            f"{name} before the response",
            partial(acts.request_fails, f"/raise/{name}", "500"),
            name,
            ("500",),
            is_quick=name in ("GeneratorExit", "KeyboardInterrupt"),
        )
        for name in EXCEPTIONS
    ),
    Row(
        "Exceptions",
        "ValueError within the response",
        partial(acts.request_fails, "/within", "200"),
        "ValueError",
    ),
    *(
        Row(
            "Exceptions",
            f"{name} on a WebSocket",
            partial(acts.websocket_fails, name),
            name,
            ("1011",),
        )
        for name in ("ValueError", "SystemExit", "CancelledError")
    ),
]
