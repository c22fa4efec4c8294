"""Where a replica's time goes: who tells the ledger, and who asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any, Generic, ParamSpec, TypeVar

from distopt.collectives import PHASES, Phase, Report
from distopt.core.wrappers import named_after
from distopt.distribute.frames import current_frame

__all__ = ["Report", "TimedIterable", "in_phase", "report", "saving", "step_stats", "timed"]

_T = TypeVar("_T")
_P = ParamSpec("_P")
_R = TypeVar("_R")


@contextmanager
def in_phase(phase: Phase) -> Iterator[None]:
    """This replica spends its time in that phase, but for collective calls."""
    context, begin = current_frame().context, perf_counter_ns()
    ledger = None if context is None else context.collective_check.ledger
    before = None if ledger is None else ledger.enter(phase)
    try:
        yield
    finally:
        if ledger is not None and before is not None:
            ledger.enter(before)
        if context is not None:
            context.world.spans.add_since(PHASES[phase], begin)


def saving(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function whose time is spent in saving."""

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with in_phase(Phase.SAVING):
            return function(*args, **kwargs)

    return named_after(function, call)


class TimedIterable(Generic[_T]):
    """What :func:`timed` returns: iterates over ``items``, and has their length if they have one."""

    def __init__(self, items: Iterable[_T]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[_T]:
        """A new pass."""
        with in_phase(Phase.INPUT):
            iterator = iter(self._items)
        while True:
            with in_phase(Phase.INPUT):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def __len__(self) -> int:
        """As that of the items.

        Raises:
            TypeError: they have none.
        """
        return len(self._items)  # type: ignore[arg-type]


def timed(loader: Iterable[_T]) -> TimedIterable[_T]:
    """The same items; the time that they take to come is accounted to input.

    ``fit``, Datasets and ``distopt.torch.DataLoader`` do so by themselves. Items are those of ``loader``,
    which is read anew by each ``for`` loop, if it can be.

    >>> [item for item in timed([1, 2])]
    [1, 2]
    """
    return TimedIterable(loader)


def step_stats(steps: int) -> dict[str, Any]:
    """What :func:`report` tells, in plain numbers, with the steps of one optimizer as ``"iterations"``."""
    found = report()
    return {"iterations": steps, **({} if found is None else found.to_dict())}


def report() -> Report | None:
    """Where the time of this job went until now, by replica and phase; who came last, and what that cost.

    One replica may call it alone: it asks nobody. Seconds are those until the replicas' last collective call.

    Returns:
        the report, whose ``str`` is a table; None before the first collective call, and for one replica
        before the first step.
    """
    context = current_frame().context
    if context is None or context.collective_check.ledger is None:
        return None
    check = context.collective_check
    assert check.ledger is not None
    return Report.of(check.ledger, check.calls, check.steps)
