"""How the HTTP/2 scenarios beyond hello are measured."""

from __future__ import annotations

from functools import partial

from benchmarks import processes, transfers
from benchmarks.measures import MIB, TRANSFER, Conditions, started, with_tls
from benchmarks.model import Sample
from benchmarks.processes import BenchmarkError, Server
from benchmarks.servers import module

TIMEOUT = 300.0


def measure_mixed(
    server: str, conditions: Conditions, *, direction: str, figure: str
) -> Sample:
    """Make a large transfer with small requests beside it on the same connection.

    ``figure`` is what counts: "rate" in MiB/s, "p50" or "p99" of the small ones in
    milliseconds, or "memory", the growth of the server meanwhile in MiB.
    """
    with started(server, with_tls(TRANSFER, http2=True), conditions) as running:
        load = partial(_transfer, running, conditions.load_core, direction)
        size = conditions.memory_transfer_size
        # What the first transfer allocates is not growth.
        load(8 * MIB, "rate")
        transfers.wait_until_steady(running.memory)
        if figure == "memory":
            with transfers.PeakMeter(running.memory) as meter:
                load(size, "rate")
            return Sample(meter.growth / MIB)
        value, busy = running.busy_during(lambda begin: load(size, figure))
        return Sample(value, busy)


def _transfer(
    running: Server, core: int, direction: str, size: int, figure: str
) -> float:
    command = module("benchmarks.http2_mixed", "--port", str(running.port))
    command += ["--direction", direction, "--size", str(size // MIB)]
    command += ["--figure", figure]
    output = processes.run(command, core, TIMEOUT)
    try:
        return float(output)
    except ValueError:
        raise BenchmarkError(f"http2_mixed printed {output[-200:]!r}") from None
