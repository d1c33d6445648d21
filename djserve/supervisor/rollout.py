"""New code: loaded beside the old, and refused, or brought in worker by worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from djserve.supervisor.nursery import Generation, Nursery
from djserve.supervisor.processes import WorkerState, describe_end

if TYPE_CHECKING:
    from djserve.net.channel import Message
    from djserve.supervisor.backoff import Backoff
    from djserve.supervisor.fleet import Fleet
    from djserve.supervisor.processes import Loader, Worker

logger = logging.getLogger("djserve")


class Rollout:
    """Take a fleet from one generation of the code to the next.

    ``outcome`` is that of the last one: its state is "none", "loading", "rolling",
    "done" or "failed", then with the problems. While one is under way, "previous" is
    the outcome of the one before.
    """

    def __init__(self, fleet: Fleet, nursery: Nursery, backoff: Backoff) -> None:
        self._fleet = fleet
        self._nursery = nursery
        self._backoff = backoff
        self._incoming: Generation | None = None
        self._previous: Generation | None = None
        self._to_replace: list[Worker] = []
        self._is_wanted_again = False
        self._attempt = 0
        self.outcome: Message = self._describe("none", [])

    @property
    def is_rolling(self) -> bool:
        """Whether workers of new code take the place of others."""
        return self._previous is not None

    @property
    def is_under_way(self) -> bool:
        """Whether new code is being loaded or brought in."""
        return self._incoming is not None or self.is_rolling

    def begin(self) -> int:
        """Load the newest code; workers of it replace the others once it is loaded.

        One that is under way is finished first, and another follows it. Returns the
        number that the outcome will have as its "attempt".
        """
        if self.is_under_way:
            self._is_wanted_again = True
            return self._attempt + 1
        self._attempt += 1
        attempt = self._attempt
        self.outcome = self._describe("loading", [], previous=self.outcome)
        generation = Generation(self._fleet.current.number + 1, None)
        self._incoming = generation
        try:
            generation.base = self._nursery.start_loader(
                lambda: self._loaded(generation)
            )
        except OSError as error:
            self._refuse([f"No process can be started: {error}"], 1)
        return attempt

    def loader_ended(self, loader: Loader, code: int) -> bool:
        """Record a loader's end; return whether it was the one of new code."""
        if self._incoming is None or self._incoming.base is not loader:
            return False
        text = f"Loading the application {describe_end(code)}"
        self._refuse(loader.problems or [text], code)
        return True

    def proceed(self) -> None:
        """Replace the next worker of old code, once the one before is replaced."""
        if self._previous is None or self._fleet.is_replacing:
            return
        while self._to_replace:
            old = self._to_replace.pop(0)
            if old in self._fleet.workers and old.state is not WorkerState.STOPPING:
                self._fleet.start_worker(replaces=old)
                return
        previous, self._previous = self._previous, None
        if previous.base is not None:
            previous.base.quit()
        logger.info("All workers run the new code")
        self._end("done", [])

    def abandon(self, failed: Worker) -> None:
        """Keep the workers that there are, since one of the new code did not start."""
        assert self._previous is not None
        fleet = self._fleet
        broken, fleet.current, self._previous = fleet.current, self._previous, None
        # Numbers go up: the next attempt is another generation than this one.
        fleet.current.number = broken.number
        if broken.base is not None:
            broken.base.quit()
        self._to_replace = []
        logger.error("The new code does not start, and the old workers stay")
        self._end("failed", failed.problems or [f"{failed} did not become ready"])

    def _loaded(self, generation: Generation) -> None:
        base = generation.base
        if generation is not self._incoming or base is None:
            return
        fleet = self._fleet
        self._incoming = None
        self._backoff.reset()
        fleet.notes = base.notes
        if base.obstacle and base.is_obstacle_unexpected:
            logger.warning(
                "Each worker loads the application for itself: %s", base.obstacle
            )
        previous, fleet.current = fleet.current, generation
        if fleet.workers:
            previous_outcome = self.outcome.get("previous")
            self.outcome = self._describe("rolling", [], previous=previous_outcome)
            self._previous = previous
            self._to_replace = list(fleet.workers)
        else:
            self._end("done", [])

    def _refuse(self, problems: list[str], code: int) -> None:
        self._incoming = None
        text = "\n".join(problems)
        if self._fleet.is_stopping:
            # The loader was told to end.
            pass
        elif not self._fleet.has_served:
            self._fleet.first_failure = 1 if code <= 0 else code
            logger.critical("%s", text)
        else:
            logger.error("The new code was refused, and the old workers stay: %s", text)
        self._end("failed", problems)

    def _end(self, state: str, problems: list[str]) -> None:
        self.outcome = self._describe(state, problems)
        if self._is_wanted_again and not self._fleet.is_stopping:
            self._is_wanted_again = False
            self.begin()

    def _describe(
        self, state: str, problems: list[str], previous: Message | None = None
    ) -> Message:
        outcome = {"state": state, "problems": problems, "attempt": self._attempt}
        if previous is not None:
            before = {k: v for k, v in previous.items() if k != "previous"}
            outcome["previous"] = before
        return outcome
