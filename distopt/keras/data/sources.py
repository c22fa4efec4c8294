"""Sources: arrays or iterables of batches, which are distributed to the replicas batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distopt.core.checks import as_count
from distopt.core.nest import flatten
from distopt.core.split import share
from distopt.keras.data.batch import Batch, as_arrays, as_weights, count_examples, take, unpack
from distopt.keras.data.dealing import example_order
from distopt.keras.data.exchange import describe, without_examples

__all__ = ["ArraySource", "IterableSource", "Source"]


class Source(ABC):
    """Base class of data sources, which yield batches for each epoch.

    Attributes:
        steps: the number of batches in an epoch, or None if unknown.
        examples: the number of examples in an epoch over all replicas, or None if unknown.
        batch_size: the global batch size, or None if unknown.
        ran_out: whether an epoch had fewer batches than requested, so that later ones have none.
    """

    ran_out = False
    steps: int | None = None
    examples: int | None = None
    batch_size: int | None = None

    @abstractmethod
    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields this replica's share of the batches of an epoch, starting with number ``first``."""

    def get_state(self) -> Any:
        """Returns the position of this replica in the data, for checkpoints."""
        return None

    def check_state(self, state: Any) -> None:  # noqa: B027 (most have none)
        """Raises an error if :meth:`set_state` would not accept this state."""

    def set_state(self, state: Any) -> None:  # noqa: B027 (most have none)
        """Restores a state of :meth:`get_state`."""

    @abstractmethod
    def sample(self) -> tuple[Any, Any, Any]:
        """Returns a few examples ``(x, y, sample_weight)``, to build and check the model."""


class ArraySource(Source):
    """A source of whole arrays, the same on every replica. Each replica reads only its share.

    First the order of the whole epoch is drawn, then every global batch is cut into contiguous shares. The
    examples of a batch therefore do not depend on the number of replicas.

    Args:
        x: the inputs: arrays or structures of them. Of an ``np.memmap`` only the share is read.
        y: the labels, or None.
        sample_weight: ``[n]`` or None.
        batch_size: the number of examples in a global batch.
        shuffle: whether to shuffle each epoch.
        seed: the seed of the order.
        replica: the number of this replica.
        replicas: the number of replicas.
        steps: the maximum number of batches in an epoch; all by default.

    Raises:
        ValueError: the arrays are empty or differ in length, or the batch size is below 1.
        TypeError: the batch size is not an integer.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        replica: int = 0,
        replicas: int = 1,
        steps: int | None = None,
    ) -> None:
        self.x, self.y = as_arrays(x), as_arrays(y)
        self.sample_weight = as_weights(sample_weight)
        self.count = count_examples({"x": self.x, "y": self.y, "sample_weight": self.sample_weight})
        self.batch_size = as_count(batch_size, "batch_size")
        self.shuffle, self.seed = shuffle, seed
        self._replica, self._replicas = replica, replicas
        every = -(-self.count // self.batch_size)
        if steps is not None and not 1 <= steps <= every:
            raise ValueError(
                f"steps must be from 1 to {every}, the batches of {self.batch_size} in {self.count} "
                f"examples; got {steps}"
            )
        self.steps: int = steps or every
        self.examples = min(self.steps * self.batch_size, self.count)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """See Source."""
        order = example_order(self.count, self.seed, epoch) if self.shuffle else None
        assert self.batch_size is not None
        for step in range(first, self.steps):
            start = step * self.batch_size
            size = min(self.batch_size, self.count - start)
            begin, end = share(size, self._replica, self._replicas)
            where = slice(start + begin, start + end)
            which = where if order is None else order[where]
            yield Batch(
                take(self.x, which), take(self.y, which), take(self.sample_weight, which), end - begin, size
            )

    def sample(self) -> tuple[Any, Any, Any]:
        """See Source."""
        first = slice(0, 1)
        return take(self.x, first), take(self.y, first), take(self.sample_weight, first)


class IterableSource(Source):
    """A source of batches that each replica reads from its own iterable.

    The iterables may end at different times. A replica whose iterable has ended, or has no batch at all,
    contributes nothing until the last one ends. The iterable is read again for each epoch. An iterator cannot
    be read again: it continues, with ``steps`` batches an epoch.

    Args:
        batches: an iterable of ``x``, ``(x, y)`` or ``(x, y, sample_weight)``. If its readings differ, it
            must save and restore which one is next, with ``get_state()`` and ``set_state(state)``.
        total: a function that sums a number over all replicas.
        steps: the number of batches in an epoch. By default an epoch ends with the iterable.
        gather: a collective function that takes a value and returns those of all replicas, by number.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        total: Callable[[int], int],
        steps: int | None = None,
        gather: Callable[[Any], list[Any]] = lambda value: [value],
    ) -> None:
        self._batches = batches
        self._total, self._gather = total, gather
        self.steps = steps if steps is not None else _length(batches)
        self._limit = steps
        self.once = iter(batches) is batches
        self._iterator: Iterator[Any] | None = None
        self._pending: list[Any] = []
        self._template: tuple[Any, Any, Any] | None = None
        self._taken = 0
        self._begun: Any = None

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """See Source."""
        step = first
        while self._limit is None or step < self._limit:
            item = self._next()
            local = 0 if item is None else len(flatten(item[0])[0])
            size = self._total(local)
            if size == 0:
                self.ran_out = self.once and self._limit is not None
                break
            if item is None:
                item = self._empty()
            yield Batch(*item, local, size)
            step += 1
        if not self.once and not self._pending:
            self._iterator = None
            self._taken = 0

    def get_state(self) -> dict[str, Any]:
        """Returns the number of batches since the last start of the iterable, and its state at that time."""
        return {
            "taken": self._taken,
            "begun": self._next_reading() if self._iterator is None else self._begun,
        }

    def check_state(self, state: Any) -> None:
        """See Source."""
        as_count(state["taken"], "taken", least=0)
        if state["begun"] is not None and hasattr(self._batches, "check_state"):
            self._batches.check_state(state["begun"])

    def set_state(self, state: dict[str, Any]) -> None:
        """Reads again, and drops, the batches that had been read."""
        if not self.once:
            self._iterator = None
            self._pending.clear()
            if state["begun"] is not None:
                self._batches.set_state(state["begun"])  # type: ignore[attr-defined]
        self._taken = 0
        for _ in range(state["taken"]):
            if self._next() is None:
                break

    def sample(self) -> tuple[Any, Any, Any]:
        """See Source. The batch is not lost. A replica without batches learns their form from the others."""
        item = self._next()
        known = [one for one in self._gather(None if item is None else describe(item)) if one is not None]
        if not known:
            raise ValueError("the iterable or generator is empty: it yielded no batch")
        if item is None:
            x, y, sample_weight = self._template or without_examples(known[0])
            self._template = x, y, sample_weight
            return self._empty()
        self._pending.append(item)
        self._taken -= 1
        return item

    def _next(self) -> tuple[Any, Any, Any] | None:
        if self._pending:
            self._taken += 1
            item: tuple[Any, Any, Any] = self._pending.pop()
            return item
        if self._iterator is None:
            self._begun = self._next_reading()
            self._iterator = iter(self._batches)
        raw = next(self._iterator, None)
        if raw is None:
            return None
        x, y, sample_weight = unpack(raw)
        item = as_arrays(x), as_arrays(y), as_weights(sample_weight)
        count_examples(dict(zip(("x", "y", "sample_weight"), item, strict=True)))
        self._template = item
        self._taken += 1
        return item

    def _next_reading(self) -> Any:
        return self._batches.get_state() if hasattr(self._batches, "get_state") else None

    def _empty(self) -> tuple[Any, Any, Any]:
        assert self._template is not None  # sample() has seen a batch, or has raised
        x, y, sample_weight = (take(part, slice(0, 0)) for part in self._template)
        return x, y, sample_weight


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except TypeError:
        return None
