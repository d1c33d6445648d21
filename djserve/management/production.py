"""A Django project as the supervisor's program: how it is loaded and forked."""

from __future__ import annotations

import gc
import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import caches
from django.db import connections

from djserve import handlers
from djserve.conf.platforms import describe_misfits, find_platform
from djserve.files import open_table
from djserve.files.folders import describe_files
from djserve.handlers.project import load_project
from djserve.handlers.routing import resolve_without_project
from djserve.instrumentation.logging import configure
from djserve.management.static_files import (
    describe_exposure,
    describe_static_files,
    find_static_folders,
    mount,
)
from djserve.responses import describe_compression
from djserve.server.banner import describe_webtransport
from djserve.server.redirect import describe_redirect
from djserve.supervisor import Loaded, Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djserve.conf.schema import ServerConfig
    from djserve.interfaces import ThreadStats

logger = logging.getLogger("djserve.server")


def create_program(config: ServerConfig) -> Program:
    """Return the project that ``django.conf.settings`` describe."""
    return Program(
        load=partial(load, config),
        before_fork=close_handles,
        describe=describe_view,
        thread_stats=read_thread_stats,
    )


def load(config: ServerConfig) -> Loaded:
    """Import the project's application. Raises ConfigError."""
    handlers.configure(config)
    project = load_project(config.django)
    mount(config.proxy.root_path)
    # What the project imports may set up logging; djserve's part comes after that.
    configure(config.logging, django=True)
    if settings.DEBUG:
        logger.warning("DEBUG is on: errors show settings and source to everyone")
    note = f"Application: {project.path}, run by {project.handler} handler"
    files = open_table(
        config.files, find_static_folders(config.files, config.proxy.root_path)
    )
    for line in describe_exposure(files):
        logger.warning("%s", line)
    # The table of files is thousands of objects in a large site, too.
    keep_loaded()
    notes = [note, *project.notes, *describe_files(files, config.files)]
    notes += describe_static_files(config.files)
    notes += describe_compression(config.compression)
    notes += describe_redirect(config.redirect)
    notes += describe_webtransport(config.http3)
    notes += describe_misfits(
        config.lifecycle,
        config.http,
        config.proxy,
        find_platform(os.environ),
        os.environ,
        has_tls=bool(config.tls.certfile or config.acme.acme_domains),
    )
    return Loaded(project.application, notes, files=files)


def keep_loaded() -> None:
    """Spare the garbage collector what is loaded by now: it stays for good.

    A full collection holds up all that the process does, the longer the more has been
    imported (benchmark: django_shows slow-views).
    """
    gc.collect()
    gc.freeze()


def close_handles() -> None:
    """Close what a fork would share: two processes on one connection mix it up.

    Each process opens its own at the next use.
    """
    for connection in connections.all(initialized_only=True):
        connection.close()
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()
    for cache in caches.all(initialized_only=True):
        cache.close()
    for alias in caches:
        try:
            # Redis clients and the like keep sockets beyond close().
            del caches[alias]
        except AttributeError:
            # This one was not used so far.
            continue
    _forget_channel_layers()


def describe_view(scope: Mapping[str, Any]) -> str:
    """Return the dotted name of the view that answers a request, "" if unknown.

    Called for diagnosis, so it runs nothing of the project's: a path is looked up only
    if that imports no module and calls no path converter other than Django's own.
    """
    if scope["type"] != "http" or type(scope["path"]) is not str:
        return ""
    match = resolve_without_project({**scope})
    return "" if match is None else match._func_path


def read_thread_stats() -> ThreadStats:
    """Return the figures of the pool's threads."""
    return handlers.shared_pool().stats()


def _forget_channel_layers() -> None:
    """Let each process make new channel layers: they hold loops and sockets."""
    module = sys.modules.get("channels.layers")
    if module is not None:
        module.channel_layers.backends.clear()
