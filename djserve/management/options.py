"""The command line of ``runasgi`` as settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.conf.options import mapping_from_namespace
from djserve.conf.parser import Flag

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_HOST = "127.0.0.1"


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the command line gives, ``addrport`` among BIND."""
    address = options.get("addrport")
    if not address:
        return mapping_from_namespace(options)
    # As with Django's runserver, digits alone are a port of this machine.
    text = f"{DEFAULT_HOST}:{address}" if address.isdigit() else address
    bind = [Flag("addrport", text), *options.get("bind", [])]
    return mapping_from_namespace({**options, "bind": bind})
