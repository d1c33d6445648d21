"""``python -m benchmarks``: enter the environment, then the command line."""

from __future__ import annotations

import sys

from benchmarks import environment, options


def main() -> int:
    arguments = sys.argv[1:]
    chosen = options.build_parser().parse_args(arguments)
    if chosen.list:
        options.list_scenarios()
        return 0
    if not chosen.here:
        environment.enter(arguments, upgrade=chosen.upgrade)
    # Only now: it needs what the environment has.
    from benchmarks import cli

    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
