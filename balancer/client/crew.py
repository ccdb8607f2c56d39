"""Submitting many: one stands in line for a slot at a time, and any number are being sent.

Mutable: who stands in line and who is being sent, touched in the crew's own event loop alone. A crew for
threads has a loop in a thread of its own, as only a task can leave the line at any moment.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, NamedTuple, TypeVar

T = TypeVar("T")
Submit = Callable[[Any, Callable[[], None]], Awaitable[Any]]
"""Submits one thing, and says on the way that it has a slot."""


class News(NamedTuple):
    """What a crew tells of a thing: that the line is free behind it; what it came to; that it has ended."""

    thing: Any
    result: Any = None
    error: Exception | None = None
    ended: bool = False


class Crew:
    """Submits what it is given, and tells what became of it.

    Args:
        submit: Submits one thing.
        tell: Hears the news, in the loop: of each thing that the line is free, then what it came to.
    """

    def __init__(self, submit: Submit, tell: Callable[[News], None]) -> None:
        self._submit, self._tell = submit, tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_line: asyncio.Task[None] | None = None

    def start(self, thing: Any) -> None:
        """Have a thing submitted. To be called once the line is free."""
        task = self._in_line = asyncio.get_running_loop().create_task(self._one(thing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def leave(self) -> None:
        """Leave the line. What is being sent goes on."""
        if self._in_line is not None:
            self._in_line.cancel()

    async def finish(self) -> None:
        """Wait until all that is being sent was answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _one(self, thing: Any) -> None:
        own = asyncio.current_task()

        def granted() -> None:
            if self._in_line is own:
                self._in_line = None
                self._tell(News(thing))

        try:
            result = await self._submit(thing, granted)
        except Exception as error:  # noqa: BLE001  # it is whoever asked for it that has to hear
            granted()
            self._tell(News(thing, error=error))
        else:
            granted()
            self._tell(News(thing, result))


class LoopThread:
    """An event loop in a thread of its own, that ends when its last task has."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="balancer-map", daemon=True)
        self._thread.start()

    _ending: ClassVar[set[threading.Thread]] = set()
    """Those whose last calls are under way: their answers name paid jobs: the process waits for them."""

    def call(self, act: Callable[..., Any], *args: Any) -> None:
        """Have something done in the loop."""
        self.loop.call_soon_threadsafe(act, *args)

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what is last, and end the loop. Nobody waits here: it may be a collection that ends us."""

        async def done() -> None:
            try:
                await last()
            finally:
                self._ending.discard(self._thread)
                self.loop.stop()

        self._ending.add(self._thread)
        tasks = []  # a loop holds its tasks weakly
        self.call(lambda: tasks.append(self.loop.create_task(done())))

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


def _await_answers() -> None:
    for thread in list(LoopThread._ending):  # noqa: SLF001  # of this very module
        thread.join()


atexit.register(_await_answers)


async def in_thread(work: Callable[[], T]) -> T:
    """Return what ``work()`` does in a thread of its own: the loop's executor may be full of waiters."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle_future(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            failed = error
        try:
            loop.call_soon_threadsafe(settle_future, result, failed)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    threading.Thread(target=run, name="balancer-call", daemon=True).start()
    return await future
