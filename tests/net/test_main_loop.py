"""The loop of a process, and Twisted's reactor that comes to it later."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

SETUP = """
import asyncio, sys, threading
from djserve.net.main_loop import (
    MainLoop, main_loop_on, new_event_loop, redirect_twisted_log, take_main_loop,
    take_main_loop_or_other,
)

def names(*tops):
    return {name for name in sys.modules if name.partition(".")[0] in tops}

assert names("twisted", "zope", "attr", "attrs") == set()
"""

RUNNING = """
runner = take_main_loop(new_event_loop(prefer_uvloop={prefer_uvloop}))
runner.loop.set_debug(True)
# The import in the loop's thread is one long turn.
runner.loop.slow_callback_duration = 600
seen = []

def run(function):
    async def call():
        try:
            await function()
        finally:
            runner.stop()
    tasks = []
    runner.call_when_running(lambda: tasks.append(runner.loop.create_task(call())))
    runner.run_loop()
    tasks[0].result()
    close()

def close():
    runner.detach()
    runner.loop.close()

async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SETUP + code],
        capture_output=True,
        text=True,
        timeout=300,
    )


def succeed(code: str) -> str:
    result = run_python(code)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


@pytest.fixture(params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest) -> str:
    """Give the beginning of a script that runs a loop of one kind or the other."""
    return RUNNING.replace("{prefer_uvloop}", str(request.param == "uvloop"))


def test_loop_runs_and_ends_without_twisted(running: str) -> None:
    succeed(f"""{running}
async def main():
    seen.append(asyncio.get_running_loop())

run(main)
assert seen == [runner.loop]
assert take_main_loop() is runner
assert names("twisted", "zope", "attr", "attrs") == set()
""")


def test_reactor_is_installed_when_twisted_is_imported(running: str) -> None:
    succeed(f"""{running}
import twisted.internet
import djserve

reactor = sys.modules["twisted.internet.reactor"]
from twisted.internet import reactor as imported
assert imported is reactor is djserve.install_reactor() is take_main_loop()
assert type(reactor).__module__ == "djserve.net.twisted.reactor"
assert reactor.loop is runner.loop and not reactor.running
reactor.callWhenRunning(seen.append, "started")
reactor.addSystemEventTrigger("during", "shutdown", seen.append, "ended")

async def main():
    assert reactor.running
    reactor.callLater(0, seen.append, "called")
    await until(lambda: len(seen) == 2)

run(main)
assert seen == ["started", "called", "ended"], seen
""")


def test_reactor_starts_on_the_loop_that_runs(running: str) -> None:
    succeed(f"""{running}
async def main():
    from twisted.internet import reactor, threads
    from twisted.python import threadable

    assert reactor.running and threadable.isInIOThread()
    reactor.callWhenRunning(seen.append, "started")
    reactor.addSystemEventTrigger("during", "shutdown", seen.append, "ended")
    reactor.callLater(0, seen.append, "called")
    deferred = threads.deferToThread(threading.current_thread)
    assert await deferred.asFuture(runner.loop) is not threading.main_thread()
    await until(lambda: len(seen) == 2)

run(main)
assert seen == ["started", "called", "ended"], seen
""")


def test_reactor_starts_on_the_loop_of_another_thread(running: str) -> None:
    succeed(f"""{running}
def view():
    from twisted.internet import reactor, threads

    got = threads.blockingCallFromThread(reactor, threading.current_thread)
    assert got is threading.main_thread()
    assert threads.blockingCallFromThread(reactor, lambda: reactor.running)
    # What wakes the loop is registered in its own thread.
    assert threads.blockingCallFromThread(reactor, reactor.getReaders)
    reactor.callFromThread(
        reactor.addSystemEventTrigger, "during", "shutdown", seen.append, "ended"
    )

async def main():
    await asyncio.to_thread(view)
    await asyncio.sleep(0)

run(main)
assert seen == ["ended"], seen
""")


def test_what_installs_a_reactor_unless_there_is_one_finds_ours(running: str) -> None:
    # As Daphne's module does.
    succeed(f"""{running}
from twisted.internet import asyncioreactor

assert isinstance(
    sys.modules["twisted.internet.reactor"], asyncioreactor.AsyncioSelectorReactor
)
close()
""")


def test_djserve_s_own_module_may_be_what_imports_twisted(running: str) -> None:
    succeed(f"""{running}
from djserve.net.twisted.reactor import Reactor, install

assert sys.modules["twisted.internet.reactor"] is install() is runner.as_reactor()
assert install().loop is runner.loop
close()
""")


def test_reactor_is_made_for_who_asks_for_it(running: str) -> None:
    succeed(f"""{running}
async def main():
    reactor = runner.as_reactor()
    assert reactor is runner.as_reactor() is reactor.as_reactor()
    assert reactor is sys.modules["twisted.internet.reactor"] and reactor.running

run(main)
""")


@pytest.mark.parametrize("twisted", [False, True], ids=["alone", "reactor"])
def test_loop_runs_on_after_an_error_that_it_outlives(
    twisted: bool, running: str
) -> None:
    succeed(f"""{running}
if {twisted}:
    import twisted.internet

errors = [SystemExit(1), KeyboardInterrupt(), SystemExit(2)]

def outlives(error):
    seen.append(type(error))
    # Not before: of two in one turn uvloop loses one.
    runner.loop.call_soon(leave)
    return len(seen) < 3

def leave():
    raise errors.pop(0)

runner.loop.call_soon(leave)
try:
    runner.run_loop(outlives)
except SystemExit as error:
    seen.append(error.code)
assert seen == [SystemExit, KeyboardInterrupt, SystemExit, 2], seen
close()
""")


def test_process_that_the_application_forks_runs_twisted_s_own_reactor(
    running: str,
) -> None:
    succeed(f"""{running}
import os, warnings

# Python 3.15 warns that this process has threads, as a server's has.
warnings.filterwarnings("ignore", "This process .* is multi-threaded")

def fork():
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    try:
        from twisted.internet import reactor

        reactor.callLater(0, reactor.stop)
        reactor.run(installSignalHandlers=False)
        assert not type(reactor).__module__.startswith("djserve"), reactor
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

async def main():
    assert await asyncio.to_thread(fork) == 0
    assert names("twisted") == set()
    from twisted.internet import reactor
    assert reactor.running and reactor.loop is runner.loop

run(main)
""")


def test_loop_of_another_gets_a_reactor_that_is_not_installed() -> None:
    succeed("""
async def main():
    asyncio.get_running_loop().slow_callback_duration = 600
    with main_loop_on(asyncio.get_running_loop()) as runner:
        assert runner.loop is asyncio.get_running_loop()
        assert names("twisted") == set()
        reactor = runner.as_reactor()
        assert reactor.loop is runner.loop and reactor.waker is not None
        assert "twisted.internet.reactor" not in sys.modules
    assert reactor.waker is None

asyncio.run(main())
""")


def test_installed_reactor_is_given_for_its_loop() -> None:
    succeed("""
import djserve

reactor = djserve.install_reactor()
with main_loop_on(reactor.loop) as runner:
    assert runner is reactor
reactor.dispose()
""")


OTHER = """
from twisted.internet import selectreactor
selectreactor.install()
"""


def test_reactor_of_another_is_in_the_way() -> None:
    result = run_python(f"{OTHER}\ntake_main_loop()")

    assert "ConfigError: Another Twisted reactor is installed" in result.stderr


def test_loop_runs_beside_the_reactor_of_another() -> None:
    result = run_python(f"""{OTHER}
runner = take_main_loop_or_other()
runner.loop.call_soon(runner.stop)
runner.run_loop()
runner.loop.close()
assert type(sys.modules["twisted.internet.reactor"]).__name__ == "SelectReactor"
""")

    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("Another Twisted reactor is installed")


def test_log_of_twisted_is_redirected_once_it_is_imported() -> None:
    assert (
        succeed("""
import logging
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
redirect_twisted_log()
assert names("twisted") == set()
from twisted.logger import Logger
Logger().warn("watch {what}", what="out")
""")
        == "djserve.twisted WARNING watch out\n"
    )
