"""What ``ps`` shows: which of the processes this one is."""

from __future__ import annotations


def set_title(role: str) -> None:
    """Name this process "djserve: role".

    With the package setproctitle in the whole command line, else, on Linux, in the
    short name alone.
    """
    title = f"djserve: {role}"
    try:
        import setproctitle
    except ImportError:
        _set_short_name(title)
    else:
        setproctitle.setproctitle(title)


def _set_short_name(title: str) -> None:
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(title[:15])
    except OSError:
        return
