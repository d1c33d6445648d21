"""What is wrong with the project's settings, as Django's system checks show it.

============  ==========================================================
djserve.E001  a setting in DJSERVE is wrong (one message for each)
djserve.E002  Daphne's app is installed along with djserve's
djserve.E003  djserve comes after django.contrib.staticfiles
djserve.E004  ASGI_APPLICATION names nothing that can be imported
djserve.E005  ASGI_APPLICATION names the WSGI application
djserve.E006  PROCESSES runs a management command that does not exist
djserve.I001  each kind of view needs an instance of a middleware
djserve.I002  a channel layer of this machine, and a database of another one
djserve.W001  ASGI_APPLICATION is missing
djserve.W002  several workers, and a channel layer that lives in one process
djserve.W003  asgiref is too old for pooled threads
djserve.W004  DEBUG is on and the server listens beyond this machine
djserve.W005  a setting of Daphne's has no effect
djserve.W006  every client is believed to be a proxy
djserve.W007  a database pool is smaller than THREADS
djserve.W008  the Redis client gives up when the channel layer's reads do
djserve.W009  an origin may call the API but not open a WebSocket
djserve.W010  a setting needs a package that is not installed
============  ==========================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.apps import AppConfig

from djserve.conf.loader import load
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError

TAG = "djserve"

Apps = Sequence[AppConfig] | None


def load_or_none() -> ServerConfig | None:
    """Return the configuration; its faults are ``check_configuration``'s to report."""
    try:
        return load()
    except ConfigError:
        return None


def parse_version(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a package's version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
