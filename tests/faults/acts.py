"""What is done to a server: each act is a row's, or some rows', of the table.

An act starts the server, commits the fault and waits for what must come of it; the
helpers of ``Bench`` fail where it does not come.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import trustme

from tests.faults.bench import GUARD, Bench, ask, head_of, wait_for
from tests.faults.site import BROKEN, DJANGO_SOURCE, SOURCE
from tests.support import postgresql

TWO = ("--workers", "2", "--shutdown-timeout", "3")
SOON = ("--worker-hang-timeout", "2", "--worker-block-warning", "1")
ALONE = ("--workers", "1", "--shutdown-timeout", "3")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
ACME = (
    *("--acme-domains", "a.example", "--acme-agree-to-terms"),
    *("--acme-challenge", "tls-alpn-01"),
)
HANGS = ("--worker-start-timeout", "20")


# While it serves.


def to_worker(number: int, bench: Bench) -> None:
    bench.start(*TWO, *SOON)
    worker = bench.workers[0]
    bench.begin()
    bench.signal(number, worker)
    wait_for(lambda: worker not in bench.workers and len(bench.workers) == 2)
    bench.recovered()


def by_request(path: str, bench: Bench) -> None:
    bench.start(*TWO, *SOON)
    before = set(bench.workers)
    bench.begin()
    bench.ask_aside(path)
    wait_for(lambda: set(bench.workers) != before and len(bench.workers) == 2)
    bench.recovered()


def all_workers(bench: Bench) -> None:
    bench.start(*TWO)
    before = bench.workers
    bench.begin()
    for pid in before:
        bench.signal(signal.SIGKILL, pid)
    wait_for(lambda: len(bench.workers) == 2 and not {*before} & {*bench.workers})
    bench.recovered()


def to_loader(number: int, bench: Bench) -> None:
    """Kill or stop the loader, then a worker, which another loader has to make."""
    bench.start(*TWO, *HANGS)
    loader = bench.loader
    worker = bench.workers[0]
    bench.begin()
    bench.signal(number, loader)
    bench.signal(signal.SIGKILL, worker)
    bench.logged(rf"(?s)process {worker}\).*is ready.*is ready")
    wait_for(lambda: bench.log.count(") is ready") >= 3)
    bench.recovered()


def to_supervisor(bench: Bench) -> None:
    bench.start(*TWO)
    bench.begin()
    bench.signal(signal.SIGKILL)
    bench.ended(-signal.SIGKILL)


def supervisor_stopped(bench: Bench) -> None:
    bench.start(*TWO)
    bench.begin()
    bench.signal(signal.SIGSTOP)
    bench.recovered()
    bench.signal(signal.SIGCONT)
    bench.recovered()


def machine_sleeps(bench: Bench) -> None:
    """Stop all processes for longer than a loop may hang, and let all run on."""
    bench.start(*TWO, *SOON)
    workers = bench.workers
    pids = [bench.pid, bench.loader, *workers]
    bench.begin()
    for pid in pids:
        bench.signal(signal.SIGSTOP, pid)
    time.sleep(3)
    for pid in reversed(pids):
        bench.signal(signal.SIGCONT, pid)
    bench.recovered()
    assert bench.workers == workers, bench.log


def alone_killed(bench: Bench) -> None:
    bench.start(*ALONE)
    bench.begin()
    bench.signal(signal.SIGKILL)
    bench.ended(-signal.SIGKILL)


def is_told(bench: Bench, offset: str) -> bool:
    """Return whether an answer's Date is that of a clock which is so many days off."""
    (line,) = [line for line in head_of(bench.port) if line.startswith("date: ")]
    date = parsedate_to_datetime(line.removeprefix("date: ")).timestamp()
    days = float(offset.rstrip("d"))
    return abs(date - time.time() - days * 86400) < 3600


def clock_jumps(offset: str, bench: Bench) -> None:
    """Set the clock that the processes see to another time, and back."""
    clock = bench.folder / "clock"
    clock.write_text("+0")
    bench.start(
        *TWO,
        *SOON,
        env={
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            # The system's own clock of the time since its start does not jump either.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    workers = bench.workers
    bench.begin()
    for text in (offset, "+0"):
        clock.write_text(text)
        wait_for(partial(is_told, bench, text), "the new time in Date")
        bench.recovered()
    assert bench.workers == workers, bench.log


# Start.


def fails_to_start(
    options: tuple[str, ...], code: int, source: str, bench: Bench
) -> None:
    bench.write(source)
    bench.begin()
    bench.launch(*options)
    bench.ended(code)


def fifo_is_in_place(options: tuple[str, ...], bench: Bench) -> None:
    """Start with a FIFO as the value of the last option."""
    os.mkfifo(bench.folder / "fifo")
    bench.begin()
    bench.launch(*options, "fifo")
    bench.ended(2)


def port_taken(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", bench.port)):
        bench.begin()
        bench.launch(*TWO)
        assert bench.process is not None
        assert bench.process.wait(GUARD) == 1, bench.log
    bench.seen["refused"] += 1


def while_loading(number: int, code: int, target: str, bench: Bench) -> None:
    bench.write(BROKEN["hang"])
    bench.launch(*TWO)
    bench.exists("loading")
    bench.begin()
    bench.signal(number, bench.loader if target == "loader" else bench.pid)
    bench.ended(code)


# Reload.


def reload_fails(why: str, bench: Bench) -> None:
    bench.start(*TWO, *(HANGS if "hang" in why else ()))
    workers = bench.workers
    bench.write(BROKEN[why])
    bench.begin()
    bench.signal(signal.SIGHUP)
    bench.logged("the old workers stay")
    bench.recovered()
    assert set(bench.workers) == set(workers), bench.log
    bench.write(SOURCE)
    reload_works(bench)


def reload_works(bench: Bench) -> None:
    before = bench.log.count(") is ready")
    bench.signal(signal.SIGHUP)
    wait_for(lambda: bench.log.count(") is ready") >= before + 2, bench.log)
    bench.recovered()


def reload_plain(bench: Bench) -> None:
    bench.start(*TWO)
    bench.begin()
    reload_works(bench)


def reload_loader(number: int, bench: Bench) -> None:
    """Kill or stop the new loader while it loads."""
    bench.start(*TWO, *(HANGS if number == signal.SIGSTOP else ()))
    bench.write(BROKEN["hang"])
    bench.begin()
    bench.signal(signal.SIGHUP)
    bench.exists("loading")
    bench.signal(number, bench.loader)
    bench.logged("the old workers stay")
    bench.recovered()
    bench.write(SOURCE)
    reload_works(bench)


# Drain.


def drain(
    options: tuple[str, ...], number: int | None, target: str, bench: Bench
) -> None:
    """End the server while a request never ends, and harm a process besides."""
    bench.start(*options)
    bench.ask_aside("/wait")
    bench.exists("begun")
    pids = {"supervisor": bench.pid}
    if "2" in options:
        pids |= {"loader": bench.loader, "worker": bench.workers[0]}
    bench.begin()
    is_stop = number == signal.SIGSTOP
    if is_stop and number is not None:
        bench.signal(number, pids[target])
    bench.signal(signal.SIGTERM)
    code = 0
    if number is not None and not is_stop:
        bench.logged("Stopping")
        bench.signal(number, pids[target])
        code = -number if target == "supervisor" and number == signal.SIGKILL else 0
    bench.ended(code)


def quit_at_once(bench: Bench) -> None:
    """End by SIGQUIT while a request never ends, which TERM would wait for."""
    longest = 100.0
    bench.start("--workers", "2", "--shutdown-timeout", f"{longest:g}")
    bench.ask_aside("/wait")
    bench.exists("begun")
    bench.begin()
    bench.signal(signal.SIGQUIT)
    bench.ended(0)
    assert bench.worst < longest, bench.log


# Files, pipes, limits.


def full_log(bench: Bench) -> None:
    bench.start(*TWO, "--access-log", "/dev/full")
    bench.begin()
    bench.logged("No space left on device; lines are lost")
    bench.recovered()


def full_then_free(bench: Bench) -> None:
    """Let no file grow for a while, as on a full disk, and look at the lines."""
    path = bench.folder / "access.log"
    # So long that the error log's file has room below the same limit.
    path.write_text("127.0.0.1 earlier\n" * 5000)
    bench.start(*ALONE, "--access-log", str(path))
    bench.begin()
    free = resource.prlimit(bench.pid, resource.RLIMIT_FSIZE)
    cut = path.stat().st_size + 10
    resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, (cut, free[1]))
    wait_for(lambda: path.stat().st_size == cut)
    bench.recovered()
    resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, free)
    wait_for(lambda: path.stat().st_size > cut + 300)
    lines = path.read_text().splitlines()
    assert all(line.startswith("127.0.0.1") for line in lines), lines
    bench.recovered()


def full_error_log(bench: Bench) -> None:
    """Let the error log's file take nothing more, and raise what it would tell."""
    bench.start(*ALONE)
    bench.begin()
    free = resource.prlimit(bench.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, (1, free[1]))
    assert ask(bench.port, "/raise/ValueError") == "500"
    bench.seen["500"] += 1
    bench.recovered()
    resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, free)
    assert ask(bench.port, "/raise/ValueError") == "500"
    bench.logged("planned")


def pipe(is_closed: bool, bench: Bench) -> None:
    """Log to a pipe whose reader goes away, or reads nothing."""
    reader, writer = os.pipe()
    try:
        bench.start(*ALONE, "--access-log", "-", stdout=writer)
        os.close(writer)
        bench.begin()
        if is_closed:
            os.close(reader)
            bench.logged("Broken pipe; lines are lost")
        bench.recovered()
    finally:
        if not is_closed:
            os.close(reader)


def no_error_log(bench: Bench) -> None:
    """Let the reader of standard error go away, and raise what would be logged."""
    reader, writer = os.pipe()
    bench.start(*ALONE, stderr=writer)
    os.close(writer)
    bench.begin()
    os.close(reader)
    for _ in range(3):
        assert ask(bench.port, "/raise/ValueError") == "500"
        bench.seen["500"] += 1
    bench.recovered()


def upload(bench: Bench) -> None:
    """Let no file grow, as on a full disk, while content is on its way to one."""
    bench.write(DJANGO_SOURCE)
    bench.start(*ALONE)
    body = b"x" * 4_000_000
    assert ask(bench.port, "/upload", body) == "200", bench.log
    bench.begin()
    free = resource.prlimit(bench.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, (1_000_000, free[1]))
    assert ask(bench.port, "/upload", body) == "500", bench.log
    bench.seen["500"] += 1
    bench.recovered()
    resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, free)
    assert ask(bench.port, "/upload", body) == "200", bench.log


def memory(bench: Bench) -> None:
    """Leave the process little memory (RLIMIT_AS), and ask for more."""
    bench.start(*ALONE)
    status = Path(f"/proc/{bench.pid}/status").read_text()
    size = int(status.partition("VmSize:")[2].split()[0]) * 1024
    bench.begin()
    free = resource.prlimit(bench.pid, resource.RLIMIT_AS)
    resource.prlimit(bench.pid, resource.RLIMIT_AS, (size + 100_000_000, free[1]))
    assert ask(bench.port, "/big") == "500"
    bench.seen["500"] += 1
    bench.recovered()
    resource.prlimit(bench.pid, resource.RLIMIT_AS, free)
    assert ask(bench.port, "/big") == "200"


def descriptors(bench: Bench) -> None:
    """Leave a process few descriptors, take them all, and give them back."""
    bench.start(*ALONE)
    before = resource.prlimit(bench.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{bench.pid}/fd"))
    bench.begin()
    resource.prlimit(bench.pid, resource.RLIMIT_NOFILE, (used + 20, before[1]))
    held = [socket.create_connection(("127.0.0.1", bench.port)) for _ in range(40)]
    bench.logged("No file descriptors are left")
    for sock in held:
        sock.close()
    bench.recovered()


def request_fails(path: str, answer: str, bench: Bench) -> None:
    bench.start(*ALONE)
    bench.begin()
    assert ask(bench.port, path) == answer
    bench.seen[answer] += 1
    bench.recovered()


def websocket_fails(name: str, bench: Bench) -> None:
    """Raise an exception in a WebSocket's handler: close code 1011."""
    from tests.e2e.clients import ONE, open_websocket

    bench.start(*ALONE)
    bench.begin()
    with open_websocket(bench.port, f"/raise/{name}") as sock:
        sock.sendall(ONE)
        assert sock.recv(100)[2:4] == b"\x03\xf3", bench.log
        bench.seen["1011"] += 1
    bench.recovered()


# Others that the application or the server needs.


def redis(bench: Bench) -> None:
    from tests.conftest import find_free_port

    port = str(find_free_port())
    words = ("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "")
    bench.start(*ALONE, env={"REDIS_PORT": port})
    bench.begin()
    assert ask(bench.port, "/redis") == "500"
    bench.seen["500"] += 1
    bench.run(*words)
    wait_for(lambda: ask(bench.port, "/redis") == "200", "Redis")
    bench.recovered()


def has_postgresql() -> bool:
    return any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def postgresql_down(bench: Bench) -> None:
    with postgresql.running_postgresql() as entry, restoring(entry) as stop:
        bench.write(DJANGO_SOURCE)
        bench.start(*ALONE, env={"PG_HOST": entry["HOST"]})
        assert ask(bench.port, "/database") == "200", bench.log
        bench.begin()
        start = stop()
        assert ask(bench.port, "/database") == "500"
        bench.seen["500"] += 1
        bench.recovered()
        start()
        wait_for(lambda: ask(bench.port, "/database") == "200", "PostgreSQL")
        bench.recovered()


def postgresql_restarts(bench: Bench) -> None:
    """Restart it while a query runs: that request fails, and the next does not."""
    with (
        postgresql.running_postgresql() as entry,
        restoring(entry) as stop,
        ThreadPoolExecutor(1) as pool,
    ):
        bench.write(DJANGO_SOURCE)
        bench.start(*ALONE, env={"PG_HOST": entry["HOST"]})
        asked = pool.submit(ask, bench.port, "/sleep")
        bench.exists("begun")
        bench.begin()
        stop()()
        assert asked.result(GUARD) == "500"
        bench.seen["500"] += 1
        assert ask(bench.port, "/database") == "200", bench.log
        bench.recovered()


@contextmanager
def restoring(entry: dict[str, Any]) -> Iterator[Callable[[], Callable[[], None]]]:
    """Give ``stop()``, which returns ``start()``; the server runs again at the end."""
    folder = Path(entry["HOST"])
    control = (postgresql._find("pg_ctl"), "-D", str(folder / "data"))
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    is_down = False

    def start() -> None:
        nonlocal is_down
        words = ("-w", "-l", str(folder / "log"), "-o", options, "start")
        postgresql._run(folder, *control, *words)
        is_down = False

    def stop() -> Callable[[], None]:
        nonlocal is_down
        postgresql._run(folder, *control, "-m", "immediate", "stop")
        is_down = True
        return start

    try:
        yield stop
    finally:
        if is_down:
            start()


def write_certificate(folder: Path) -> None:
    pem = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem
    pem.write_to_path(str(folder / "cert.pem"))


def handshake(bench: Bench) -> bool:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", bench.port), GUARD) as sock,
        context.wrap_socket(sock) as wrapped,
    ):
        return wrapped.version() is not None


def certificate(text: str | None, bench: Bench) -> None:
    """Put something else in the certificate's place, and have it loaded again."""
    path = bench.folder / "cert.pem"
    write_certificate(bench.folder)
    bench.start(*ALONE, "--certfile", str(path), tls=True)
    bench.begin()
    path.unlink()
    if text is not None:
        path.write_text(text)
    bench.signal(signal.SIGHUP)
    bench.logged("(ERROR|WARNING).*[Cc]ert")
    assert handshake(bench)
    write_certificate(bench.folder)
    bench.signal(signal.SIGHUP)
    assert handshake(bench)
