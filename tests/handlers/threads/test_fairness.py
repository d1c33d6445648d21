"""The queue for threads: order, shares, connections, and that nothing starves."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.handlers.threads.fairness import CERTAIN, FairQueue, Needs, Use

SHARES = st.sampled_from([0.5, 0.8, 0.95, 1.0])


@dataclass(eq=False)
class Job:
    view: str | None
    comes_at: int = 0
    takes: int = 1
    place: int = 0
    starts_at: int = -1
    number: int = 0
    worker: object | None = None


class Simulation:
    """Threads that run jobs for their time, on a clock that goes on by itself.

    Beside each start it notes what waited, for the properties below.
    """

    def __init__(self, threads: int, share: float) -> None:
        self.queue: FairQueue[Job] = FairQueue(share)
        self.threads = threads
        self.running: list[tuple[int, int, Job]] = []
        self.now = 0

    @property
    def free(self) -> int:
        return self.threads - len(self.running)

    def run(self, jobs: list[Job]) -> None:
        """Have all jobs come, run and end."""
        coming = sorted(jobs, key=lambda job: job.comes_at)
        for number, job in enumerate(coming):
            job.number = number
        while coming or self.running:
            moments = [job.comes_at for job in coming[:1]]
            moments += [end for end, _, _ in self.running[:1]]
            self.now = min(moments)
            while self.running and self.running[0][0] <= self.now:
                self.queue.end(heapq.heappop(self.running)[2].view)
            while coming and coming[0].comes_at <= self.now:
                self.queue.append(coming.pop(0))
            self.start_all()

    def start_all(self) -> None:
        while self.free and (job := self.queue.next(self.free)) is not None:
            self.queue.remove(job)
            self.queue.begin(job.view)
            job.starts_at = self.now
            entry = (self.now + job.takes, job.number, job)
            heapq.heappush(self.running, entry)
        self.check()

    def check(self) -> None:
        """Check what must hold whenever nothing more may start."""
        counts = Counter(job.view for _, _, job in self.running)
        for view, count in counts.items():
            assert self.queue.count_running(view) == count or view is None
        if self.free:
            # Whoever waits has threads already: a view without any never waits here.
            assert all(counts[job.view] for job in self.queue)


def jobs_of(views: str) -> st.SearchStrategy[list[Job]]:
    job = st.builds(
        Job,
        st.sampled_from([*views]),
        st.integers(0, 30),
        st.integers(1, 50),
    )
    return st.lists(job, max_size=80)


@given(jobs=jobs_of("abcd"), threads=st.integers(1, 20), share=SHARES)
def test_all_jobs_run_and_those_of_one_view_in_their_order(
    jobs: list[Job], threads: int, share: float
) -> None:
    Simulation(threads, share).run(jobs)

    assert all(job.starts_at >= job.comes_at for job in jobs)
    for view in "abcd":
        mine = sorted(
            (job for job in jobs if job.view == view), key=lambda job: job.number
        )
        starts = [job.starts_at for job in mine]
        assert starts == sorted(starts)


@given(slow=jobs_of("ab"), threads=st.integers(6, 40), at=st.integers(0, 60))
def test_view_without_threads_starts_at_once_beside_slow_ones(
    slow: list[Job], threads: int, at: int
) -> None:
    quick = Job("quick", at)
    Simulation(threads, 0.8).run([*slow, quick])

    assert quick.starts_at == at


@given(jobs=jobs_of("abc"), threads=st.integers(1, 20))
def test_without_shares_the_order_is_that_of_arrival(
    jobs: list[Job], threads: int
) -> None:
    Simulation(threads, 1.0).run(jobs)

    starts = [job.starts_at for job in sorted(jobs, key=lambda job: job.number)]
    assert starts == sorted(starts)


@given(
    flood=st.integers(1, 400),
    others=jobs_of("bcdefghij"),
    threads=st.integers(16, 64),
)
def test_flood_of_one_view_holds_up_the_others_no_longer_than_they_themselves(
    flood: int, others: list[Job], threads: int
) -> None:
    """With the flood, others wait at most as on the threads that its share leaves."""
    alone = [Job(job.view, job.comes_at, 1) for job in others]
    for job in others:
        job.takes = 1
    Simulation(max(1, threads // 5), 1.0).run(alone)
    Simulation(threads, 0.8).run([*(Job("a", 0, 50) for _ in range(flood)), *others])

    worst_alone = max((job.starts_at - job.comes_at for job in alone), default=0)
    worst = max((job.starts_at - job.comes_at for job in others), default=0)
    # The bound of each small view takes a little more than its part of what is left.
    assert worst <= 2 * worst_alone + 2


@pytest.mark.parametrize(
    ("threads", "share", "most"),
    [(1, 0.8, 1), (2, 0.8, 1), (4, 0.8, 3), (12, 0.8, 9), (256, 0.8, 204), (9, 1, 9)],
)
def test_one_view_gets_its_share(threads: int, share: float, most: int) -> None:
    queue: FairQueue[Job] = FairQueue(share)
    for _ in range(300):
        queue.append(Job("slow"))
    count = 0
    while count < threads and (job := queue.next(threads - count)) is not None:
        queue.remove(job)
        queue.begin(job.view)
        count += 1

    assert count == most == queue.count_running("slow")
    assert queue.count_waiting("slow") == len(queue) == 300 - most


def test_jobs_without_a_view_know_no_share() -> None:
    queue: FairQueue[Job] = FairQueue(0.1)
    queue.begin(None)
    queue.append(Job(None))

    assert queue.may_start(None, 1)
    assert queue.next(1) is not None
    queue.end(None)
    assert queue.views() == set()


def test_oldest_is_found_among_all_views() -> None:
    queue: FairQueue[Job] = FairQueue()
    jobs = [Job("b"), Job("a"), Job("b")]
    for job in jobs:
        queue.append(job)

    assert queue.oldest is jobs[0]
    assert {*queue} == {*jobs}
    queue.remove(jobs[2])
    queue.remove(jobs[0])
    assert (queue.oldest, queue.views(), jobs[0].place) == (jobs[1], {"a"}, 0)


def test_view_that_computes_leaves_threads_for_others_to_compute() -> None:
    queue: FairQueue[Job] = FairQueue(0.8)
    for _ in range(9):
        queue.begin("slow")
    blocked = queue.may_start("slow", 200, 3)
    for _ in range(9):
        queue.mark("slow", is_waiting=True)
    waiting = queue.may_start("slow", 200, 12)
    queue.mark("slow", is_waiting=False)

    assert (blocked, waiting) == (False, True)
    assert not queue.may_start("slow", 200, 1)
    assert queue.may_start("other", 200, 1)


def test_jobs_that_need_a_connection_begin_while_there_is_one() -> None:
    queue: FairQueue[Job] = FairQueue()
    queue.needs.learn("query", Use("default", 2, 0.0, waited=1.0), 0.0)
    for view in ("query", "query", "query", "plain"):
        queue.append(Job(view))

    started = []
    while (job := queue.next(9)) is not None:
        queue.remove(job)
        queue.begin(job.view)
        started.append(job.view)
    was_short = queue.is_short
    queue.end("query")

    assert started == ["query", "query", "plain"]
    assert was_short
    assert not queue.is_short
    assert queue.next(9) is not None


def test_job_that_has_begun_goes_on_whatever_the_others_need() -> None:
    queue: FairQueue[Job] = FairQueue()
    queue.needs.learn("query", Use("default", 1, 0.0, waited=1.0), 0.0)
    queue.begin("query")
    first, begun = Job("query"), Job("query", worker=object())
    queue.append(first)
    queue.append(begun)

    assert queue.next(9) is begun
    queue.remove(begun)
    assert queue.next(9) is None
    assert queue.count_waiting("query") == 1
    assert queue.oldest is first


# Which views are held back until there is a connection, and which are not.

ENDS_AT_TEN = pytest.mark.usefixtures("_clock")


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    # All jobs end ten seconds after they have begun.
    monkeypatch.setattr(
        "djserve.handlers.threads.fairness.time.monotonic", lambda: 10.0
    )


def known(*views: str, limit: int = 4, share: float = 1.0, alias: str = "a") -> Needs:
    needs = Needs(share)
    for view in views:
        needs.learn(view, Use(alias, limit, 1.0, waited=2.0), 0.0)
    return needs


@ENDS_AT_TEN
@pytest.mark.parametrize(
    ("use", "is_known"),
    [
        (None, False),
        # It has not had to wait: there is no shortage.
        (Use("a", 4, 1.0), False),
        (Use("a", 4, 1.0, waited=2.0), True),
        # Half of what is left of its time without the wait.
        (Use("a", 4, 4.0, waited=2.0), True),
        (Use("a", 4, 4.1, waited=2.0), False),
    ],
)
def test_view_is_known_by_an_early_query_that_had_to_wait(
    use: Use | None, is_known: bool
) -> None:
    needs = Needs()
    needs.learn("view", use, 0.0)

    assert ("view" in needs) == is_known
    assert bool(needs) == is_known


@ENDS_AT_TEN
def test_calls_without_a_view_are_never_held_back() -> None:
    needs = Needs()
    needs.learn(None, Use("a", 1, 1.0, waited=2.0), 0.0)

    assert not needs
    assert needs.allow(None, {})


@ENDS_AT_TEN
def test_as_many_begin_as_there_are_connections() -> None:
    needs = known("one", "two")

    assert needs.allow("one", {"one": 1, "two": 2, "plain": 9})
    assert not needs.allow("one", {"one": 2, "two": 2})
    assert needs.allow("plain", {"one": 2, "two": 2})


@ENDS_AT_TEN
def test_one_view_leaves_connections_to_others() -> None:
    needs = known("one", "two", share=0.8)

    assert not needs.allow("one", {"one": 3})
    assert needs.allow("two", {"one": 3})


@ENDS_AT_TEN
def test_databases_are_counted_apart() -> None:
    needs = known("one", limit=1)
    needs.learn("two", Use("b", 1, 1.0, waited=2.0), 0.0)

    assert needs.allow("two", {"one": 1})
    assert needs.alias_of("two") == "b"


@ENDS_AT_TEN
def test_more_begin_while_threads_wait_for_what_has_not_begun() -> None:
    needs = known("one", limit=1)
    needs.spare = 1

    assert needs.allow("one", {"one": 1})
    assert not needs.allow("one", {"one": 2})


@ENDS_AT_TEN
@pytest.mark.parametrize("use", [None, Use("a", 4, 9.0)])
def test_view_that_asks_no_more_or_late_is_forgotten(use: Use | None) -> None:
    needs = known("one")
    for _ in range(2 * CERTAIN):
        needs.learn("one", Use("a", 4, 1.0), 0.0)
    for _ in range(CERTAIN - 1):
        needs.learn("one", use, 0.0)
    assert "one" in needs

    needs.learn("one", use, 0.0)

    assert "one" not in needs


@ENDS_AT_TEN
def test_limit_is_that_of_the_last_wait() -> None:
    needs = known("one", limit=1)
    needs.learn("one", Use("b", 2, 1.0, waited=2.0), 0.0)

    assert needs.allow("one", {"one": 1})
    assert needs.alias_of("one") == "b"
