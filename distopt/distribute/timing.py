"""Assigns a replica's time to phases such as input and saving, and reports it."""

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
    """Assigns this replica's time within a ``with`` block to a phase.

    Time in collective calls is not affected. In a thread other than the one that makes the calls, such as
    one that reads ahead, it does nothing.
    """
    context, begin = current_frame().context, perf_counter_ns()
    if context is not None and context.lock.elsewhere:
        context = None
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
    """Decorates a function whose time counts as saving."""

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with in_phase(Phase.SAVING):
            return function(*args, **kwargs)

    return named_after(function, call)


class TimedIterable(Generic[_T]):
    """The result of :func:`timed`: an iterable over ``items``, with their length if they have one."""

    def __init__(self, items: Iterable[_T]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[_T]:
        """Starts a new pass."""
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
        """The length of the items.

        Raises:
            TypeError: they have none.
        """
        return len(self._items)  # type: ignore[arg-type]


def timed(loader: Iterable[_T]) -> TimedIterable[_T]:
    """Iterates over a loader and counts the time spent waiting for it as input.

    ``fit``, Datasets and ``distopt.torch.DataLoader`` do this automatically. Each ``for`` loop reads
    ``loader`` again, if it can be read again.

    >>> [item for item in timed([1, 2])]
    [1, 2]
    """
    return TimedIterable(loader)


def step_stats(steps: int) -> dict[str, Any]:
    """Returns the numbers of :func:`report`, with the steps of one optimizer as ``"iterations"``."""
    found = report()
    return {"iterations": steps, **({} if found is None else found.to_dict())}


def report() -> Report | None:
    """Returns where the time of this job went so far, by replica and phase, and which replicas came last.

    Not collective: a single replica may call it. Times are those up to the last collective call of each
    replica.

    Returns:
        The report, whose ``str`` is a table. None before the first collective call, and for one replica
        before the first step.
    """
    context = current_frame().context
    if context is None or context.collective_check.ledger is None:
        return None
    check = context.collective_check
    assert check.ledger is not None
    return Report.of(check.ledger, check.calls, check.steps)
