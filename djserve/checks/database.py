"""The threads of the server, and the connections of the project's databases."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections

from djserve.checks import Apps
from djserve.errors import ConfigError
from djserve.handlers.connection_bound import pool_size
from djserve.handlers.runtime import current_config, thread_count


def check_database_pools(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report database connection pools that are smaller than what threads may open."""
    try:
        config = current_config().django
        threads = thread_count(config)
    except ConfigError:
        # Reported by the check of the settings themselves.
        return []
    most = config.database_connections
    wanted = threads if most is None else min(threads, most)
    messages: list[CheckMessage] = []
    for alias, database in connections.settings.items():
        size = pool_size(database)
        if size is not None and size < wanted:
            messages.append(
                Warning(
                    f"The connection pool of database {alias!r} has {size} "
                    f"connections: of the {threads} threads that compute, no more are "
                    "connected to it at a time, and the others wait.",
                    hint=f'Raise "max_size" in OPTIONS["pool"] to {wanted}, or lower '
                    "THREADS in DJSERVE (by default four for each CPU and four more, "
                    "32 at most). DATABASE_CONNECTIONS, by default the number of these "
                    "threads, can be no more than the size of the pool; set to "
                    f"{size}, it says that this is meant.",
                    id="djserve.W007",
                )
            )
    return messages


CHECKS = (check_database_pools,)
