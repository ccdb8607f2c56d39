"""Callers in threads of their own, and a source that a test plays."""

from __future__ import annotations

import pathlib
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor

from stepping import until

PATIENCE = 30.0
HERE = str(pathlib.Path(__file__).parents[1])


def shown(error):
    """Return all that could be printed of an error: its chain and, but for the tests', frames with locals."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    lines, link = [repr(error), repr(vars(error))], report
    while link is not None:
        frames = [frame for frame in link.stack if not frame.filename.startswith(HERE)]
        lines += [*traceback.StackSummary.from_list(frames).format(), *link.format_exception_only()]
        link = link.__cause__ or link.__context__
    return "".join(lines)


def start(function, *args, **options):
    """Call ``function`` in a thread of its own, and return its future."""
    future = Future()

    def work():
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def crew(number, function, *args, **options):
    """Call ``function`` in so many threads at once, and return their futures."""
    gate = threading.Barrier(number)

    def work():
        gate.wait(PATIENCE)
        return function(*args, **options)

    return [start(work) for _ in range(number)]


def side_by_side(function, *cases):
    """Call ``function`` with the arguments of each case, all at the same time, as each mostly waits."""
    with ThreadPoolExecutor(len(cases)) as threads:
        futures = [threads.submit(function, *case) for case in cases]
    for case, future in zip(cases, futures, strict=True):
        if (raised := future.exception()) is not None:
            raised.add_note(f"case: {case}")
            raise raised


def result(future):
    """Return what a call returned, or raise what it raised."""
    return future.result(PATIENCE)


def error(future):
    """Return what a call raised."""
    raised = future.exception(PATIENCE)
    assert raised is not None, f"it returned {future.result()!r}"
    return raised


def queued(pool, number):
    """Wait until so many callers stand in the pool's line."""
    until(lambda: pool.stats().waiting == number)


def in_line(pool, number, **options):
    """Have so many callers wait, one behind the other, and return their futures in that order."""
    before = pool.stats().waiting
    futures = []
    for place in range(number):
        futures.append(start(pool.acquire, **options))
        queued(pool, before + place + 1)
    return futures


class Played:
    """A source whose table, trouble and moment of answering are the test's."""

    def __init__(self, **table):
        self.table = table
        self.trouble = None
        self.calls = 0
        self._open = threading.Event()
        self._open.set()

    def hold(self):
        """Answer nobody from now on."""
        self._open.clear()

    def detached(self):
        """Answer everybody who asked, and whoever asks from now on."""
        self._open.set()

    def accounts(self):
        self.calls += 1
        trouble, table = self.trouble, self.table
        assert self._open.wait(PATIENCE)
        if trouble is not None:
            raise trouble
        return table
