"""The settings reference, docs/reference/settings.md, made from the schema.

``python -m djserve.conf.reference`` prints it, ``--write`` puts it into its file, and
``--check`` fails if the file says something else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from djserve.conf.catalogue import Group, Setting, groups
from djserve.conf.options import describe_value

PAGE = Path("docs/reference/settings.md")

_INTRODUCTION = """\
# Settings

<!-- Made by `python -m djserve.conf.reference --write`; edit djserve/conf instead. -->

Each setting is a key of the dictionary `DJSERVE` in the project's settings, a flag of
`manage.py runasgi` and of the `djserve` command, and an environment variable: the key
after `DJSERVE_`, as in `DJSERVE_WORKERS`.
A flag comes before the variable, the variable before the key; settings given in none of
these places use their defaults.
`manage.py djserve settings` shows each value and where it comes from.

```python
DJSERVE = {
    "BIND": ["127.0.0.1:8000", "unix:/run/example.sock"],
    "KEEP_ALIVE_TIMEOUT": 30,
    "PROXY_HEADERS": True,
}
```

Times are in seconds and sizes in bytes, or have a unit: `"250ms"`, `"30s"`, `"5m"`,
`"2h"`, `"64KiB"`, `"1GiB"`.
A key that does not exist or a value of the wrong type is an error, and all errors are
reported together: by `manage.py check`, and by the server, which does not start.
Repeat a flag to pass several values. They replace the list in settings.py.
In a variable, commas separate them.
A switch has a second form that turns it off: `--no-` before its name.
As variables, switches are `on` or `off`.

`runasgi` and `djserve` also read the variables that platforms set, for what nothing
else says: `PORT` (listens on all addresses), `WEB_CONCURRENCY` (workers) and
`FORWARDED_ALLOW_IPS` (trusted proxies, and `PROXY_HEADERS`).
"""

_DAPHNE = """\
## Daphne's command line

All of Daphne's options are supported: replace `daphne` with `djserve` and keep the rest
of the command. Daphne's names are accepted in addition to a setting's own flag, which
is always its key with dashes.

- `-b`, `-p`, `-u`, `--fd` and `-e` may be combined: all that they name is listened on.
  A `-b` without a port gets that of `-p`, or 8000; a `-p` alone means 127.0.0.1.
  They replace the whole of `BIND`.
- `--http-timeout 0` and `--websocket_timeout -1` turn the limit off.
  `--websocket_connect_timeout -1` and `--ping-timeout 0` wait for a year.
- `--websocket-max-message-size 0` and `--websocket-max-frame-size 0` lift the limit.
- `--no-server-name` leaves the `Server` header out.
- `--proxy-headers-host` and `--proxy-headers-port` need `--proxy-headers` as well.

Three things differ on purpose.
`--proxy-headers` believes only the proxies in `TRUSTED_PROXIES`; Daphne believes all.
`--ping-interval 0` turns pings off; Daphne pings without a pause.
`--application-close-timeout 0` lets an application keep running after its client has
disconnected; Daphne ends it at once.
A WebSocket lives as long as it likes unless `WEBSOCKET_TIMEOUT` says otherwise; Daphne
ends it after a day.
"""

_TABLE_HEAD = """\
| Key | Flag | Type | Default | Meaning |
| --- | --- | --- | --- | --- |
"""


def render() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION, *map(_render_group, groups()), _DAPHNE])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m djserve.conf.reference",
        description="Make the settings reference from the schema.",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write the page")
    action.add_argument("--check", action="store_true", help="compare the page")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.check:
        return _check(options.page)
    if options.write:
        options.page.write_text(render(), encoding="utf-8")
    else:
        sys.stdout.write(render())
    return 0


def _check(page: Path) -> int:
    if page.is_file() and page.read_text(encoding="utf-8") == render():
        return 0
    sys.stderr.write(
        f"{page} is out of date: run python -m djserve.conf.reference --write\n"
    )
    return 1


def _render_group(group: Group) -> str:
    rows = "".join(map(_render_row, group.settings))
    return f"## {group.title}\n\n{_TABLE_HEAD}{rows}"


def _render_row(setting: Setting) -> str:
    cells = (
        f"`{setting.key}`",
        _render_flags(setting),
        _render_type(setting),
        _render_default(setting),
        setting.help,
    )
    # A bar would end the cell.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _render_flags(setting: Setting) -> str:
    flags = ", ".join(f"`{flag}`" for flag in setting.flags)
    if setting.kind is bool:
        return flags
    return f"{flags} `{describe_value(setting)}`"


def _render_type(setting: Setting) -> str:
    names = {tuple: "list of strings", str: "string", float: "seconds"}
    name = names.get(setting.kind, setting.kind.__name__)
    if setting.minimum is not None:
        name += f", at least {setting.minimum:g}"
    if setting.maximum is not None:
        name += f", at most {setting.maximum:.15g}"
    return f"{name}, or `None`" if setting.optional else name


def _render_default(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, tuple):
        default = list(default)
    return f"`{default!r}`"


if __name__ == "__main__":
    sys.exit(main())
