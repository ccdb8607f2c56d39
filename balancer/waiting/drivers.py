"""Algorithms that may wait or talk to a shared store, written once for threads and tasks.

An algorithm is a generator, a *flow*. It yields what it cannot do itself, and a driver does that in its
own way: :func:`drive` blocks the thread, :func:`adrive` awaits. What a driver raises at a yield
(KeyboardInterrupt, CancelledError) arrives in the flow, which puts everything back before it lets it pass.

A *step* is the result itself, where nothing has to be waited for, or a flow that brings it.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Generator
from types import GeneratorType
from typing import Any, NamedTuple, TypeVar, Union, overload

from balancer.clock import Clock

_RUN_LATER = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
T = TypeVar("T")


class WaitForWake(NamedTuple):
    """Sleep until the waiter is woken, or until the clock reads ``until``."""

    waiter: Any
    until: float
    clock: Clock


class Sleep(NamedTuple):
    """Sleep for so many real seconds: what is waited for goes by no clock of ours."""

    seconds: float


class BackendCall(NamedTuple):
    """Have a store's backend carry out an operation; its reply comes back."""

    backend: Any
    operation: Any
    limit: float
    """Seconds within which there has to be an answer."""


class Call(NamedTuple):
    """Call the user's function with ``lease``; what it returns comes back."""

    lease: Any


Effect = WaitForWake | Sleep | BackendCall | Call
Flow = Generator[Effect, Any, T]
Step = Union[T, Flow[T]]  # noqa: UP007  (a generic alias of a type variable)


@overload
def result_of(step: Flow[T]) -> Flow[T]: ...
@overload
def result_of(step: Step[T]) -> Flow[T]: ...
def result_of(step: Step[T]) -> Flow[T]:
    """Bring the result of a step, within a flow."""
    if type(step) is GeneratorType:
        result: T = yield from step
        return result
    return step  # type: ignore[return-value]  # what is no flow is the result


@overload
def drive(step: Flow[T], call: Callable[[Any], Any] | None = None) -> T: ...
@overload
def drive(step: Step[T], call: Callable[[Any], Any] | None = None) -> T: ...
def drive(step: Step[T], call: Callable[[Any], Any] | None = None) -> T:
    """Bring the result of a step, in this thread."""
    if type(step) is not GeneratorType:
        return step  # type: ignore[return-value]
    flow = step
    try:
        effect = next(flow)
        while True:
            try:
                came, failed = _perform(effect, call), None
            except BaseException as error:  # noqa: BLE001  # the flow decides what becomes of it
                failed = error
            # Not in the handler: what the flow raises would have it as its context, request and all.
            effect = flow.send(came) if failed is None else flow.throw(failed)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()  # it still waits if an interruption came while no effect was under way
        failed = None  # its traceback holds this frame


@overload
async def adrive(step: Flow[T], call: Callable[[Any], Awaitable[Any]] | None = None) -> T: ...
@overload
async def adrive(step: Step[T], call: Callable[[Any], Awaitable[Any]] | None = None) -> T: ...
async def adrive(step: Step[T], call: Callable[[Any], Awaitable[Any]] | None = None) -> T:
    """Bring the result of a step, in this task."""
    if type(step) is not GeneratorType:
        return step  # type: ignore[return-value]
    flow = step
    try:
        effect = next(flow)
        while True:
            failed = None
            try:
                if type(effect) is WaitForWake:
                    came = await effect.waiter.park(effect.clock.sleep_for(effect.until))
                else:
                    came = await _aperform(effect, call)
            except BaseException as error:  # noqa: BLE001  # the flow decides what becomes of it
                failed = error
            effect = flow.send(came) if failed is None else flow.throw(failed)  # as in drive
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()  # it still waits if an interruption came while no effect was under way
        failed = None  # its traceback holds this frame


def runs_later(function: object, *, awaited: bool) -> bool:
    """Whether a call of ``function`` does none of its work, which then comes after its lease has ended.

    Generators do, and coroutines that nobody awaits. ``awaited``: somebody does.
    """
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004  (not whether it can be called, but how)
    kinds = _RUN_LATER if awaited else (*_RUN_LATER, inspect.iscoroutinefunction)
    # What types.coroutine makes of a generator is awaited like any coroutine.
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if awaited and flags & inspect.CO_ITERABLE_COROUTINE:
        return False
    return any(kind(one) for kind in kinds for one in (function, call))


def _perform(effect: Effect, call: Callable[[Any], Any] | None) -> Any:
    if isinstance(effect, BackendCall):
        return effect.backend.call(effect.operation, effect.limit)
    if isinstance(effect, WaitForWake):
        return effect.waiter.park(effect.clock.sleep_for(effect.until))
    if isinstance(effect, Sleep):
        return time.sleep(effect.seconds)
    return _call(call, effect.lease) if call else None


def _call(call: Callable[[Any], Any], lease: Any) -> Any:
    answer = call(lease)
    if inspect.iscoroutine(answer):
        answer.close()  # nothing was sent: it has not begun
        raise TypeError("call must not be a coroutine function: use an AsyncAccountPool")
    return answer


async def _aperform(effect: Effect, call: Callable[[Any], Awaitable[Any]] | None) -> Any:
    if isinstance(effect, BackendCall):
        return await effect.backend.acall(effect.operation, effect.limit)
    if isinstance(effect, Sleep):
        from asyncio import sleep  # long here, as there is a task; others start faster without

        return await sleep(effect.seconds)
    return await _acall(call, effect.lease) if call and isinstance(effect, Call) else None


async def _acall(call: Callable[[Any], Any], lease: Any) -> Any:
    return await awaited(call(lease))


async def awaited(answer: Any) -> Any:
    """Return what ``answer`` gives when awaited. What cannot be awaited comes as it is.

    Whoever made it has sent the job all the same: an error here would hide that it runs.
    """
    return await answer if inspect.isawaitable(answer) else answer
