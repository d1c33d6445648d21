"""Run this interpreter as if on Windows or macOS: hide what these systems lack.

Python imports this module when it starts, if this folder is in PYTHONPATH; the variable
DJSERVE_STANDIN names the system. The standard library and the interpreter's own parts,
which on Windows are others, keep what they have: they are imported first, and get whole
copies of the modules that lose names. All that is imported after that (djserve, Django,
Twisted) finds what it would find there.

The names come of typeshed, whose stubs know for each name on which systems it is.
"""

# mypy: ignore-errors
# It puts into modules what their annotations rule out.
from __future__ import annotations

import asyncio
import ctypes
import errno
import importlib
import importlib.abc
import multiprocessing
import os
import selectors
import signal
import socket
import ssl
import stat
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn
from unittest.mock import MagicMock

VARIABLE = "DJSERVE_STANDIN"

# What of the standard library uses names that are to be hidden.
PRELOADED = [
    "asyncio.base_subprocess",
    "asyncio.selector_events",
    "asyncio.unix_events",
    "concurrent.futures.process",
    "concurrent.futures.thread",
    "ctypes",
    "email.message",
    "faulthandler",
    "getpass",
    "glob",
    "http.client",
    "http.server",
    "logging.config",
    "logging.handlers",
    "mailbox",
    "multiprocessing.connection",
    "multiprocessing.context",
    "multiprocessing.forkserver",
    "multiprocessing.heap",
    "multiprocessing.managers",
    "multiprocessing.pool",
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.queues",
    "multiprocessing.reduction",
    "multiprocessing.resource_sharer",
    "multiprocessing.resource_tracker",
    "multiprocessing.shared_memory",
    "multiprocessing.sharedctypes",
    "multiprocessing.spawn",
    "multiprocessing.synchronize",
    "multiprocessing.util",
    "netrc",
    "optparse",
    "pathlib",
    "pdb",
    "platform",
    "random",
    "runpy",
    "secrets",
    "selectors",
    "shutil",
    "smtplib",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "sysconfig",
    "tempfile",
    "unittest.mock",
    "urllib.request",
    "uuid",
    "webbrowser",
    "zipfile",
    "zoneinfo",
]

WINDOWS_MODULES = frozenset(
    [
        "crypt",
        "curses",
        "fcntl",
        "grp",
        "nis",
        "posix",
        "pty",
        "pwd",
        "readline",
        "resource",
        "spwd",
        "syslog",
        "termios",
        "tty",
        "uvloop",
    ]
)

WINDOWS = {
    "asyncio": """
        DefaultEventLoopPolicy FastChildWatcher MultiLoopChildWatcher PidfdChildWatcher
        SafeChildWatcher ThreadedChildWatcher open_unix_connection start_unix_server
        unix_events
    """,
    "faulthandler": "register unregister",
    "mmap": """
        MADV_DONTFORK MADV_DONTNEED MADV_NORMAL MADV_WILLNEED MAP_ANON MAP_ANONYMOUS
        MAP_POPULATE MAP_PRIVATE MAP_SHARED PROT_EXEC PROT_READ PROT_WRITE
    """,
    "os": """
        EX_CANTCREAT EX_CONFIG EX_DATAERR EX_IOERR EX_NOHOST EX_NOINPUT EX_NOPERM
        EX_NOUSER EX_OSERR EX_OSFILE EX_PROTOCOL EX_SOFTWARE EX_TEMPFAIL EX_UNAVAILABLE
        EX_USAGE F_LOCK F_TEST F_TLOCK F_ULOCK MFD_CLOEXEC O_ACCMODE O_ASYNC O_CLOEXEC
        O_DIRECT O_DIRECTORY O_DSYNC O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK
        O_PATH O_RSYNC O_SYNC O_TMPFILE POSIX_FADV_DONTNEED POSIX_FADV_SEQUENTIAL
        POSIX_FADV_WILLNEED P_ALL P_PGID P_PID P_PIDFD RWF_APPEND RWF_DSYNC RWF_HIPRI
        RWF_NOWAIT RWF_SYNC SCHED_OTHER WCONTINUED WCOREDUMP WEXITED WEXITSTATUS
        WIFEXITED WIFSIGNALED WIFSTOPPED WNOHANG WNOWAIT WSTOPPED WTERMSIG WUNTRACED
        chown chroot confstr copy_file_range ctermid environb eventfd fchdir fchmod
        fchown fdatasync fork forkpty fpathconf fstatvfs fwalk getegid getenvb geteuid
        getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getrandom
        getresgid getresuid getsid getuid getxattr initgroups killpg lchown listxattr
        lockf login_tty memfd_create mkfifo mknod nice openpty pathconf pidfd_open pipe2
        posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite
        pwritev readv register_at_fork removexattr sched_getaffinity sched_setaffinity
        sched_yield sendfile setegid seteuid setgid setgroups setpgid setpgrp
        setpriority setregid setresgid setresuid setreuid setsid setuid setxattr splice
        statvfs sync sysconf sysconf_names tcgetpgrp tcsetpgrp ttyname uname wait wait3
        wait4 waitid writev get_blocking set_blocking EFD_CLOEXEC EFD_NONBLOCK
        NGROUPS_MAX O_LARGEFILE PRIO_PROCESS RTLD_GLOBAL RTLD_LAZY RTLD_LOCAL RTLD_NOW
        SEEK_DATA SEEK_HOLE ST_RDONLY WIFCONTINUED WSTOPSIG eventfd_read eventfd_write
        major makedev minor sched_getscheduler sched_setscheduler spawnlp spawnlpe
        spawnvp spawnvpe waitid_result
    """,
    "select": """
        EPOLLERR EPOLLET EPOLLEXCLUSIVE EPOLLHUP EPOLLIN EPOLLONESHOT EPOLLOUT EPOLLPRI
        EPOLLRDHUP EPOLL_CLOEXEC PIPE_BUF
        POLLERR POLLHUP POLLIN POLLNVAL POLLOUT POLLPRI POLLRDHUP epoll poll
    """,
    "selectors": "EpollSelector PollSelector",
    "signal": """
        ITIMER_PROF ITIMER_REAL ITIMER_VIRTUAL SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT
        SIGHUP SIGIO SIGIOT SIGKILL SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGRTMAX
        SIGRTMIN SIGSTKFLT SIGSTOP SIGSYS SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1
        SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIG_BLOCK SIG_SETMASK SIG_UNBLOCK
        alarm getitimer pause pidfd_send_signal pthread_kill pthread_sigmask setitimer
        siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
    """,
    "socket": """
        AF_NETLINK AF_PACKET AF_UNIX AF_VSOCK CMSG_LEN CMSG_SPACE MSG_CMSG_CLOEXEC
        MSG_CONFIRM MSG_DONTWAIT MSG_EOR MSG_FASTOPEN MSG_MORE MSG_NOSIGNAL
        SCM_CREDENTIALS SCM_RIGHTS SOCK_CLOEXEC SOCK_NONBLOCK SO_BINDTODEVICE SO_DOMAIN
        SO_INCOMING_CPU SO_MARK SO_PASSCRED SO_PEERCRED SO_PRIORITY SO_PROTOCOL
        SO_REUSEPORT TCP_CONGESTION TCP_CORK TCP_DEFER_ACCEPT TCP_INFO TCP_LINGER2
        TCP_NOTSENT_LOWAT TCP_QUICKACK TCP_SYNCNT TCP_USER_TIMEOUT TCP_WINDOW_CLAMP
        recv_fds send_fds sethostname EAI_ADDRFAMILY EAI_SYSTEM IPPROTO_MPTCP
        IPV6_RECVPKTINFO IP_BIND_ADDRESS_NO_PORT IP_TRANSPARENT MSG_ERRQUEUE SO_PEERSEC
    """,
    "socketserver": """
        ForkingMixIn ForkingTCPServer ForkingUDPServer ThreadingUnixDatagramServer
        ThreadingUnixStreamServer UnixDatagramServer UnixStreamServer
    """,
    "time": """
        CLOCK_BOOTTIME CLOCK_MONOTONIC CLOCK_MONOTONIC_RAW CLOCK_PROCESS_CPUTIME_ID
        CLOCK_REALTIME CLOCK_TAI CLOCK_THREAD_CPUTIME_ID clock_getres clock_gettime
        clock_gettime_ns clock_settime clock_settime_ns pthread_getcpuclockid tzset
    """,
}

MACOS = {
    "mmap": "MADV_DONTFORK MAP_POPULATE MAP_STACK",
    "os": """
        MFD_CLOEXEC O_DIRECT O_NOATIME O_PATH O_RSYNC O_TMPFILE POSIX_FADV_DONTNEED
        POSIX_FADV_SEQUENTIAL POSIX_FADV_WILLNEED P_PIDFD RWF_APPEND RWF_DSYNC RWF_HIPRI
        RWF_NOWAIT RWF_SYNC copy_file_range eventfd fdatasync getrandom getresgid
        getresuid getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise
        posix_fallocate removexattr sched_getaffinity sched_setaffinity setresgid
        setresuid setxattr splice
    """,
    "select": """
        EPOLLERR EPOLLET EPOLLHUP EPOLLIN EPOLLOUT EPOLL_CLOEXEC POLLRDHUP epoll
    """,
    "selectors": "EpollSelector",
    "signal": """
        SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT pidfd_send_signal sigtimedwait
        sigwaitinfo
    """,
    "socket": """
        AF_NETLINK AF_PACKET AF_VSOCK MSG_CMSG_CLOEXEC MSG_CONFIRM MSG_FASTOPEN MSG_MORE
        MSG_NOSIGNAL SCM_CREDENTIALS SOCK_CLOEXEC SOCK_NONBLOCK SO_DOMAIN
        SO_INCOMING_CPU SO_MARK SO_PASSCRED SO_PEERCRED SO_PRIORITY SO_PROTOCOL
        TCP_CONGESTION TCP_CORK TCP_DEFER_ACCEPT TCP_INFO TCP_LINGER2 TCP_QUICKACK
        TCP_SYNCNT TCP_USER_TIMEOUT TCP_WINDOW_CLAMP
    """,
    "time": "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
}
if sys.version_info < (3, 13):
    # Newer versions have it.
    MACOS["os"] += " waitid"


def pose_as(system: str) -> None:
    """Hide what ``system`` lacks, for the rest of this process."""
    names = {"windows": WINDOWS, "macos": MACOS}[system]
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    whole = {name: ModuleType(name) for name in names}
    for name, copy in whole.items():
        copy.__dict__.update(sys.modules[name].__dict__)
    if hasattr(os, "process_cpu_count"):
        # It looks at the names that are hidden; elsewhere it is the same as this.
        os.process_cpu_count = whole["os"].process_cpu_count = os.cpu_count
    _hand_out(whole)
    for name, hidden in names.items():
        for one in hidden.split():
            sys.modules[name].__dict__.pop(one, None)
    if system == "windows":
        _become_windows(whole["os"])
        _restrict_signals(whole["signal"])
        _refuse_descriptors(whole)
        # Windows makes pairs too, of two TCP sockets.
        pair, family = socket.socketpair, whole["socket"].AF_UNIX
        for module in (socket, whole["socket"]):
            module.socketpair = lambda *_: pair(family)
    else:
        sys.platform = "darwin"
        _hide_files(whole["os"])


def _hand_out(whole: dict[str, ModuleType]) -> None:
    """Give the modules that are loaded the whole ones, under whatever name."""
    by_identity = {id(sys.modules[name]): copy for name, copy in whole.items()}
    for module in list(sys.modules.values()):
        if module is sys or module.__name__ == __name__:
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType) and id(value) in by_identity:
                vars(module)[name] = by_identity[id(value)]


class _Absent(importlib.abc.MetaPathFinder):
    """Find none of the modules that Windows lacks."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in WINDOWS_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class SelectorLoop(asyncio.selector_events.BaseSelectorEventLoop):
    """As on Windows: no signal handlers, unix sockets or subprocesses."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())


class ProactorLoop(SelectorLoop):
    """The loop that asyncio makes on Windows by default: none of the readers."""

    def add_reader(self, *args: Any) -> NoReturn:
        raise NotImplementedError

    add_writer = remove_reader = remove_writer = add_reader


# Private since Python 3.14, which warns of what is public of policies.
_BasePolicy = getattr(
    asyncio.events,
    "_BaseDefaultEventLoopPolicy",
    getattr(asyncio.events, "BaseDefaultEventLoopPolicy", object),
)
_set_policy = getattr(
    asyncio.events, "_set_event_loop_policy", asyncio.events.set_event_loop_policy
)


class _LoopPolicy(_BasePolicy):
    _loop_factory = ProactorLoop


class _Missing:
    """A method that the class has, and Windows' has not."""

    def __get__(self, instance: object, owner: object = None) -> NoReturn:
        raise AttributeError("Windows has no such method")


def _become_windows(whole: ModuleType) -> None:
    for name in WINDOWS_MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent())
    sys.platform = "win32"
    os.name = "nt"
    # Django locks files by the system's own library.
    ctypes.windll = ctypes.WinDLL = MagicMock()
    sys.modules["msvcrt"] = MagicMock()
    os.O_BINARY = 0
    # Twisted asks for names that Windows reserves (Python 3.13).
    os.path.isreserved = lambda path: False
    # The store of certificates, which is empty here.
    ssl.enum_certificates = lambda store: []
    # Ctrl-Break; its number is that of another signal here.
    signal.SIGBREAK = signal.Signals(21)
    socket.SO_EXCLUSIVEADDRUSE = socket.SO_OOBINLINE
    for name in [name for name in dir(errno) if name.startswith("E")]:
        setattr(errno, f"WSA{name}", getattr(errno, name))
    socket.socket.sendmsg = _Missing()
    socket.socket.recvmsg = _Missing()
    asyncio.selector_events._HAS_SENDMSG = False
    asyncio.SelectorEventLoop = SelectorLoop
    asyncio.ProactorEventLoop = ProactorLoop
    _set_policy(_LoopPolicy())
    multiprocessing.set_start_method("spawn")
    for name in ("dup", "dup2", "close", "fstat", "read", "write"):
        _refuse_sockets(name, whole)
    _refuse_sockets("set_inheritable", whole)
    _hide_files(whole)


def _restrict_signals(whole: ModuleType) -> None:
    """Let only these be handled, as Windows does."""
    names = "SIGABRT SIGBREAK SIGFPE SIGILL SIGINT SIGSEGV SIGTERM"
    handled = {int(getattr(signal, name)) for name in names.split()}

    def handle(number: int, action: Any) -> Any:
        if int(number) not in handled:
            raise ValueError("invalid signal value")
        return whole.signal(number, action)

    signal.signal = handle


def _refuse_descriptors(whole: dict[str, ModuleType]) -> None:
    """Let select() wait for sockets alone."""
    select = sys.modules["select"]

    def wait(*given: Any) -> Any:
        for one in (each for group in given[:3] for each in group):
            number = one if isinstance(one, int) else one.fileno()
            if not stat.S_ISSOCK(whole["os"].fstat(number).st_mode):
                raise OSError(10038, "It is not a socket")
        return whole["select"].select(*given)

    select.select = wait


def _refuse_sockets(name: str, whole: ModuleType) -> None:
    """Let a function of descriptors take no socket, which is a handle on Windows."""
    function = getattr(whole, name)

    def refuse_socket(descriptor: Any, *args: Any, **options: Any) -> Any:
        if isinstance(descriptor, int) and descriptor >= 0:
            with suppress(OSError):
                if stat.S_ISSOCK(whole.fstat(descriptor).st_mode):
                    raise _NotDescriptor
        return function(descriptor, *args, **options)

    setattr(os, name, refuse_socket)


class _NotDescriptor(OSError):
    def __init__(self) -> None:
        super().__init__(errno.EBADF, "Bad file descriptor")


def _hide_files(whole: ModuleType) -> None:
    """Hide /proc, which the kernel has here."""
    import builtins
    import io

    opens = builtins.open

    def is_hidden(path: Any) -> bool:
        return isinstance(path, str) and path.startswith(("/proc", "/sys/", "/dev/fd"))

    def open_file(path: Any, *args: Any, **options: Any) -> Any:
        if is_hidden(path):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return opens(path, *args, **options)

    def hide(name: str) -> None:
        function = getattr(os, name)

        def refuse(path: Any = ".", *args: Any, **options: Any) -> Any:
            if is_hidden(path):
                raise FileNotFoundError(errno.ENOENT, "No such file", path)
            return function(path, *args, **options)

        setattr(os, name, refuse)

    builtins.open = io.open = open_file
    for name in ("open", "listdir", "scandir", "stat", "readlink"):
        hide(name)


if system := os.environ.get(VARIABLE):
    pose_as(system)
