"""What this process is for, as the project may ask it."""

from __future__ import annotations

NAME_VARIABLE = "DJSERVE_PROCESS_NAME"
"""The variable that a process of PROCESSES finds its key in."""

_is_worker = False


def is_worker() -> bool:
    """Return whether this process serves requests, or loads the project for that.

    True from ``AppConfig.ready()`` on in each process that runs the application under
    djserve. False in the supervisor, under ``manage.py migrate`` and the like, and in
    the process of ``runserver`` that only watches files. A scheduler that is to run
    once for each worker starts if this is True.
    """
    return _is_worker


def become_worker() -> None:
    """Have ``is_worker`` return True from now on."""
    global _is_worker
    _is_worker = True
