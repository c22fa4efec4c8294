"""join: empty batches for replicas whose data end before those of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from distopt.collectives import digest
from distopt.distribute import ReplicaContext, collective_call, require_replica_context

__all__ = ["join"]

_T = TypeVar("_T")
_CALL = "distopt.torch.join"
#: Stands for the last batch of a loader that has not yielded any.
_NONE: Any = object()


def join(loader: Iterable[_T]) -> Iterator[_T]:
    """Yields the batches of a loader, then empty ones until the loaders of all replicas have ended.

    Use it for data of unknown length, such as an ``IterableDataset``. All replicas make the same number of
    steps, and no example is left out. An empty batch is the last batch of the replica without its rows:
    tensors of shape ``[0, ...]``. Call ``optimizer.step(examples=len(x))``, so that it has no weight even
    though the mean over no examples is NaN. Each batch is collective and costs one exchange of headers.

    Args:
        loader: an iterable of batches: tensors and arrays with the examples along the first axis, or lists,
            tuples and dicts of them.

    Raises:
        ValueError: the loader of a replica yields no batch at all, while others do.
        TypeError: a batch contains other objects and cannot be emptied.
        ReplicaFailed: the loader of another replica failed, or one of these errors happened there.
    """
    context = require_replica_context(f"{_CALL}()")
    batches, batch, ended = iter(loader), _NONE, False
    while True:
        error = None
        try:
            if not ended:
                batch = next(batches)
        except StopIteration:
            ended = True
        except Exception as problem:
            error = problem
        others = _agree(context, error, flags=int(not ended))
        if not any(others):
            return
        if not all(others):
            try:
                if ended:
                    batch = _without_rows(batch)
            except (TypeError, ValueError) as problem:
                error = problem
            _agree(context, error)
        yield batch


@collective_call
def _agree(context: ReplicaContext, error: Exception | None, flags: int = 0) -> list[int]:
    return context.collective_check.check(_CALL, digest(_CALL), lambda: f"{_CALL}()", error, flags)


def _without_rows(batch: Any) -> Any:
    """An empty batch of the same structure.

    Raises:
        TypeError: it contains something other than tensors, arrays, strings, numbers, and containers of
            these.
        ValueError: there was no batch yet.
    """
    if batch is _NONE:
        raise ValueError(
            f"{_CALL}() derives an empty batch from the last batch of a replica, but its loader yielded "
            "none: each replica needs some data"
        )
    if isinstance(batch, (torch.Tensor, np.ndarray)):
        if not batch.ndim:
            return batch
        return batch[:0].clone() if isinstance(batch, torch.Tensor) else batch[:0].copy()
    if isinstance(batch, dict):
        return {key: _without_rows(value) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        if hasattr(batch, "_fields"):
            return type(batch)(*map(_without_rows, batch))
        texts = all(isinstance(value, (str, bytes)) for value in batch)  # one of each example
        return type(batch)([] if texts else map(_without_rows, batch))
    if batch is None or isinstance(batch, (str, bytes, bool, int, float)):
        return batch
    raise TypeError(
        f"{_CALL}() cannot make an empty batch of a {type(batch).__name__}: batches may consist of tensors, "
        f"arrays, strings, numbers, and lists, tuples and dicts of these"
    )
