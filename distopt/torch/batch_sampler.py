"""DistributedBatchSampler: which examples each replica has in each batch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch

from distopt.core.random import stream
from distopt.torch.replicas import rank as own_rank
from distopt.torch.replicas import size
from distopt.typing import Array

__all__ = ["DistributedBatchSampler"]

_STATE = ("epoch", "position", "seed", "shuffle", "examples")


class DistributedBatchSampler(torch.utils.data.Sampler[list[int]]):
    """Samples the batches of this replica, for ``DataLoader(data, batch_sampler=...)``.

    The order of an epoch depends on the seed and the epoch only. It is cut into global batches, and each
    replica gets a part of each. With the same global batch size, batch k therefore has the same examples with
    any number of replicas. All replicas have the same number of batches. Their sizes differ by one at most;
    ``optimizer.step(examples=len(x))`` weights them.

    In an epoch every example is used exactly once. A last global batch with fewer examples than replicas is
    merged with the one before.

    The sampler does not communicate, so all replicas must pass the same arguments and epochs.

    Args:
        data: the data set. Only its length is used.
        batch_size: the number of examples in a batch of one replica, as in PyTorch.
        global_batch_size: the number of examples in a batch of all replicas together. Pass it instead of
            ``batch_size``.
        shuffle: whether to shuffle each epoch. Otherwise the order is that of the data.
        seed: the seed of the shuffling.
        drop_last: whether to drop a last global batch that is smaller than the others.
        num_replicas: the number of replicas, by default that of this job.
        rank: the number of this replica, by default its number in this job.

    Raises:
        TypeError: the data has no length, or not exactly one of the two sizes is given.
        ValueError: a size is below 1, there are fewer examples than replicas, or ``rank`` is not a replica.

    >>> list(DistributedBatchSampler(range(7), 2, shuffle=False, num_replicas=3, rank=0))
    [[0, 1, 6]]
    """

    def __init__(
        self,
        data: Sized,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self._replicas = size() if num_replicas is None else num_replicas
        self._rank = own_rank() if rank is None else rank
        if not 0 <= self._rank < self._replicas:
            raise ValueError(f"rank must be from 0 to {self._replicas - 1}; got {self._rank}")
        self._examples = _length(data)
        self._global_size = _global_size(batch_size, global_batch_size, self._replicas)
        if 0 < self._examples < self._replicas and not drop_last:
            raise ValueError(
                f"{self._examples} examples are too few for {self._replicas} replicas: each needs one"
            )
        self._shuffle, self._seed, self._drop_last = shuffle, seed % 2**64, drop_last
        self._epoch = self._start = 0
        self._pass: _Pass | None = None

    def __iter__(self) -> Iterator[list[int]]:
        before, start = self._pass, self._start
        if before is not None and before.done:
            start = self._start = 0
        random = None
        if start:
            # A DataLoader draws a random number when it starts a pass. A continued pass must not draw
            # another, so its first batch restores this state. With workers, the loader calls iter() twice.
            waiting = before is not None and not before.asked
            random = before.random if before is not None and waiting else torch.get_rng_state()
        self._pass = _Pass(self._shares(start), _asked_in_advance(), start, random)
        return self._pass

    def __len__(self) -> int:
        """The number of batches of an epoch, the same on all replicas."""
        return len(self._ends(0))

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, and with it the order of the next pass.

        After :meth:`load_state_dict`, the same epoch continues at the saved position. Any other epoch starts
        from the beginning.
        """
        if epoch != self._epoch:
            self._epoch, self._start, self._pass = epoch, 0, None

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the data: how many examples the loaders of all replicas have returned.

        Batches that workers of a ``DataLoader`` have prepared in advance do not count.
        """
        position = self._start if self._pass is None else self._pass.position
        return dict(
            zip(_STATE, (self._epoch, position, self._seed, self._shuffle, self._examples), strict=True)
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a position of :meth:`state_dict`.

        The next pass is the rest of that epoch, which may be empty.

        The batch size and the number of replicas may have changed. If fewer examples are left than there are
        replicas, they are skipped.

        Raises:
            KeyError: the state is not that of a sampler.
            ValueError: the state is that of a data set of another length.
        """
        epoch, position, seed, shuffle, examples = (state[name] for name in _STATE)
        for name, saved, own in (
            ("len(data)", examples, self._examples),
            ("shuffle", shuffle, self._shuffle),
        ):
            if saved != own:
                raise ValueError(
                    f"the DistributedBatchSampler's state was saved with {name} = {saved}; here it is {own}"
                )
        if not 0 <= position <= examples or not 0 <= seed < 2**64:
            raise ValueError(f"no state of a DistributedBatchSampler: position {position}, seed {seed}")
        self._epoch, self._start, self._seed, self._pass = epoch, position, seed, None

    def _ends(self, start: int) -> Sequence[int]:
        """The end position of each global batch, if the first one starts at example ``start``."""
        whole, rest = divmod(self._examples - start, self._global_size)
        ends = [start + self._global_size * (k + 1) for k in range(whole)]
        if rest and not self._drop_last:
            if rest >= self._replicas:
                ends.append(self._examples)
            elif ends:
                ends[-1] = self._examples
        return ends

    def _shares(self, start: int) -> list[tuple[int, Array]]:
        """For each global batch from ``start``: its end position, and this replica's examples (indices)."""
        # Not torch's generator with seed + epoch: seed 0 in epoch 1 would have the order of seed 1 in epoch
        # 0.
        epoch = self._epoch % 2**64
        order = (
            stream(self._seed, step=epoch).permutation(self._examples)
            if self._shuffle
            else np.arange(self._examples)
        )
        shares, begin = [], start
        for end in self._ends(start):
            least, more = divmod(end - begin, self._replicas)
            own = begin + self._rank * least + min(self._rank, more)
            shares.append((end, order[own : own + least + (self._rank < more)]))
            begin = end
        return shares


class _Pass(Iterator[list[int]]):
    """An iterator over the batches of an epoch, or over the rest of it.

    Args:
        shares: for each global batch its end position, and the indices of this replica's examples.
        in_advance: how many batches the DataLoader requests before it returns the first one.
        start: the position of the first global batch.
        random: the state of PyTorch's generator to restore with the first batch, or None.

    Attributes:
        random: as above.
        asked: how many batches have been requested, including requests after the last batch.
    """

    def __init__(
        self, shares: list[tuple[int, Array]], in_advance: int, start: int, random: torch.Tensor | None
    ) -> None:
        self._shares, self._in_advance, self._start = shares, in_advance, start
        self.random = random
        self.asked = 0

    def __next__(self) -> list[int]:
        if self.random is not None and not self.asked:
            torch.set_rng_state(self.random)
        self.asked += 1
        if self.asked > len(self._shares):
            raise StopIteration
        share: list[int] = self._shares[self.asked - 1][1].tolist()
        return share

    @property
    def _handed_out(self) -> int:
        # With workers, the loader requests one more batch with each that it returns, even after the last one.
        return min(max(self.asked - self._in_advance, 0), len(self._shares))

    @property
    def position(self) -> int:
        """The end position of the last batch that the loader has returned."""
        return self._shares[self._handed_out - 1][0] if self._handed_out else self._start

    @property
    def done(self) -> bool:
        """Whether the loader has returned all batches."""
        return bool(self.asked) and self._handed_out == len(self._shares)


def _asked_in_advance() -> int:
    """How many batches the DataLoader that starts a pass requests before it returns the first one.

    A batch sampler is not told which loader calls it, so this looks for a variable ``loader`` in the caller
    of ``__iter__``.
    """
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame.f_back if frame is not None else None
    loader = frame.f_locals.get("loader") if frame is not None else None
    if not isinstance(loader, torch.utils.data.DataLoader) or not loader.num_workers:
        return 0
    return loader.num_workers * (loader.prefetch_factor or 0)


def _length(data: Sized) -> int:
    try:
        return len(data)
    except TypeError:
        raise TypeError(
            f"DistributedBatchSampler needs data of known length; {type(data).__name__} has none. An "
            "IterableDataset is read by each replica separately: use dt.join(loader), so that all make "
            "the same number of steps"
        ) from None


def _global_size(batch_size: int | None, global_batch_size: int | None, replicas: int) -> int:
    if (batch_size is None) == (global_batch_size is None):
        raise TypeError("DistributedBatchSampler takes either batch_size or global_batch_size")
    name, given, least = (
        ("batch_size", batch_size, 1)
        if batch_size is not None
        else ("global_batch_size", global_batch_size, replicas)
    )
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {given!r}")
    return given if batch_size is None else given * replicas
