"""Dataset: a small pipeline of examples, batches and what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from distopt.core.checks import as_count
from distopt.core.keywords import KnownArguments
from distopt.core.nest import flatten, map_structure, pack
from distopt.distribute import timed
from distopt.keras.data.batch import as_arrays, count_examples
from distopt.keras.data.dealing import example_order
from distopt.keras.data.prefetch import prefetched

__all__ = ["Dataset"]


class Dataset(KnownArguments):
    """An iterable that can be read repeatedly. Each method returns a new one.

    Args:
        make: a function from the number of the reading (0, 1, ...) to an iterator.
        length: the number of elements, if known.

    >>> data = Dataset.from_tensor_slices(np.arange(5)).batch(2)
    >>> [batch.tolist() for batch in data]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, make: Callable[[int], Iterator[Any]], length: int | None = None) -> None:
        self._make = make
        self._length = length
        self._readings = 0
        #: Elements that the next reading leaves out, and those that the one going on has given.
        self._skipped = 0
        self._given: int | None = None

    @classmethod
    def from_tensor_slices(cls, data: Any) -> Dataset:
        """Creates a data set of the examples in arrays, or in lists, tuples and dicts of arrays.

        Raises:
            ValueError: the arrays differ in length.
        """
        arrays = map_structure(np.asarray, data)
        count = count_examples({"data": as_arrays(arrays)})

        def example(i: int) -> Any:
            return map_structure(lambda array: array[i], arrays)

        return cls(lambda _: map(example, range(count)), count)

    @classmethod
    def from_generator(cls, generator: Callable[[], Iterable[Any]]) -> Dataset:
        """Creates a data set from a generator function without arguments, which each reading calls again."""
        return cls(lambda _: iter(generator()))

    def __iter__(self) -> Iterator[Any]:
        return iter(timed(self._read()))

    def _read(self) -> Iterator[Any]:
        # A reading begins when its first element is asked for: an iterator that is dropped before is none.
        reading, self._readings = self._readings, self._readings + 1
        skipped, self._skipped = self._skipped, 0
        self._given = skipped
        try:
            for number, item in enumerate(islice(self._make(reading), skipped, None), skipped + 1):
                if self._readings == reading + 1:  # else a later reading is the one that counts
                    self._given = number
                yield item
        finally:
            if self._readings == reading + 1:
                self._given = None

    def get_state(self) -> dict[str, int]:
        """Returns the number of the current or next reading and the position in it, for checkpoints."""
        if self._given is None:
            return {"readings": self._readings, "given": self._skipped}
        return {"readings": self._readings - 1, "given": self._given}

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        as_count(state["readings"], "readings", least=0)
        as_count(state.get("given", 0), "given", least=0)

    def set_state(self, state: dict[str, int]) -> None:
        """Continues the next reading at a position of :meth:`get_state`.

        Skipped elements are computed again.
        """
        self._readings, self._skipped = state["readings"], state.get("given", 0)
        self._given = None

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("the length of this Dataset is not known")
        return self._length

    def map(self, function: Callable[..., Any]) -> Dataset:
        """Applies ``function`` to each element. The parts of a tuple become its arguments."""

        def make(reading: int) -> Iterator[Any]:
            for item in self._make(reading):
                yield function(*item) if isinstance(item, tuple) else function(item)

        return Dataset(make, self._length)

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Combines ``batch_size`` elements at a time along a new first axis.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")

        def make(reading: int) -> Iterator[Any]:
            items = self._make(reading)
            while chunk := list(islice(items, batch_size)):
                if len(chunk) < batch_size and drop_remainder:
                    return
                columns = zip(*(flatten(item) for item in chunk), strict=True)
                yield pack(chunk[0], [np.stack(column) for column in columns])

        known = self._length
        if known is not None:
            known = known // batch_size if drop_remainder else -(-known // batch_size)
        return Dataset(make, known)

    def shuffle(self, buffer_size: int | None = None, seed: int = 0) -> Dataset:
        """Shuffles elements. The order depends on the seed and the number of the reading.

        Args:
            buffer_size: the number of elements to shuffle at a time; all by default.
            seed: the seed of the order.
        """

        def make(reading: int) -> Iterator[Any]:
            items, part = self._make(reading), 0
            while chunk := list(items if buffer_size is None else islice(items, buffer_size)):
                for i in example_order(len(chunk), seed + part, reading):
                    yield chunk[i]
                part += 1

        return Dataset(make, self._length)

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Keeps every ``num_shards``-th element, starting with number ``index``.

        Raises:
            ValueError: ``index`` is not from 0 to num_shards - 1.
        """
        if not 0 <= index < num_shards:
            raise ValueError(f"index must be from 0 to {num_shards - 1}; got {index}")
        known = None if self._length is None else len(range(index, self._length, num_shards))
        return Dataset(lambda reading: islice(self._make(reading), index, None, num_shards), known)

    def take(self, count: int) -> Dataset:
        """Keeps the first ``count`` elements."""
        known = None if self._length is None else min(count, self._length)
        return Dataset(lambda reading: islice(self._make(reading), count), known)

    def repeat(self, count: int | None = None) -> Dataset:
        """Repeats all elements ``count`` times, by default forever."""

        def make(reading: int) -> Iterator[Any]:
            done = 0
            while count is None or done < count:
                yield from self._make(reading + done if count is None else reading * count + done)
                done += 1

        known = None if self._length is None or count is None else self._length * count
        return Dataset(make, known)

    def prefetch(self, buffer_size: int = 2) -> Dataset:
        """Prepares elements ahead of time in a thread.

        Raises:
            TypeError: ``buffer_size`` is not an integer.
            ValueError: ``buffer_size`` is below 1.
        """
        as_count(buffer_size, "buffer_size")
        return Dataset(lambda reading: prefetched(self._make(reading), buffer_size), self._length)
