"""What can be found out to be wrong before training starts."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.nest import flatten
from distopt.distribute import ReplicaContext
from distopt.keras import losses
from distopt.typing import Array

__all__ = ["check_labels", "check_numbers", "check_same_length", "check_shares"]

#: Rows looked through at a time, so that a large array needs no large mask.
_ROWS = 1 << 14


def check_numbers(data: Any, name: str) -> None:
    """Raises ValueError if an array in memory holds NaN; ``np.memmap`` is not read through."""
    if data is None:
        return
    for leaf in flatten(data):
        if leaf.dtype.kind not in "fc":
            if leaf.dtype.kind not in "biu":
                raise TypeError(f"{name} must hold numbers; got dtype {leaf.dtype}")
            continue
        if is_mapped(leaf):
            continue
        for start in range(0, len(leaf), _ROWS):
            part: Array = leaf[start : start + _ROWS]
            if np.isnan(part).any():
                row = start + int(np.argwhere(np.isnan(part))[0][0])
                raise ValueError(f"{name} holds NaN, first in example {row}: remove or fill such examples")


def is_mapped(array: Array) -> bool:
    """Whether it lies in a file, of which only this replica's share shall be read."""
    return isinstance(array, np.memmap) or isinstance(array.base, np.memmap)


def check_labels(y: Any, y_pred: Any, loss: losses.Loss, whole: Any = None) -> None:
    """Raises ValueError if labels do not fit an output and its loss.

    Args:
        y: ``[n, ...]`` labels of a few examples.
        y_pred: ``[n, ...]`` the model's output for them.
        loss: the loss between them.
        whole: all labels, if they are at hand, to check their values.
    """
    classes = y_pred.shape[-1]
    if _is(loss, "sparse_categorical_crossentropy"):
        if y.ndim == y_pred.ndim and y.shape[-1] not in (1,):
            raise ValueError(
                f"sparse_categorical_crossentropy takes one class number for each example; got labels of "
                f"shape {_batch(y)}. One-hot labels go with categorical_crossentropy."
            )
        values = y if whole is None or is_mapped(whole) else whole
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(
                f"labels must be from 0 to {classes - 1}, the model having {classes} outputs; got labels "
                f"from {values.min()} to {values.max()}"
            )
        return
    if _is(loss, "categorical_crossentropy") and y.shape != y_pred.shape:
        raise ValueError(
            f"categorical_crossentropy takes one-hot labels of the output's shape {_batch(y_pred)}; got "
            f"{_batch(y)}. Class numbers go with sparse_categorical_crossentropy."
        )
    if _is(loss, None):
        return
    squeezed = y.shape[:-1] if y.shape[-1:] == (1,) and y.ndim == y_pred.ndim + 1 else y.shape
    try:
        np.broadcast_shapes(squeezed, y_pred.shape)
    except ValueError:
        raise ValueError(
            f"labels of shape {_batch(y)} do not fit the model's output of shape {_batch(y_pred)}"
        ) from None


def _is(loss: losses.Loss, name: str | None) -> bool:
    """Whether it is the shipped loss of that name; None: whether it is none of the shipped ones."""
    shipped = type(loss).__module__.startswith(losses.__name__) and (
        type(loss) is not losses.LossFunctionWrapper or loss.fn.__module__.startswith(losses.__name__)
    )
    if name is None:
        return not shipped
    return shipped and loss.name == name


def _batch(value: Any) -> str:
    return "[" + ", ".join(["batch", *map(str, value.shape[1:])]) + "]"


def check_shares(batch_size: int, replicas: int) -> None:
    """Raises ValueError if some replica would never get an example."""
    if batch_size < replicas:
        raise ValueError(
            f"batch_size={batch_size} is the size of the global batch, which {replicas} replicas share: "
            f"it must be at least {replicas}"
        )


def check_same_length(count: int, context: ReplicaContext) -> None:
    """Raises ValueError, on all replicas alike, if their data differ in length."""
    counts = np.asarray(context.all_gather(np.array([count], np.int64), axis=0))
    if (counts != counts[0]).any():
        shown = ", ".join(f"replica {r}: {n}" for r, n in enumerate(counts))
        raise ValueError(
            f"every replica must be given the same whole arrays, of which fit takes its share; the numbers "
            f"of examples differ ({shown}). Data that is shared out already goes in as batches (an iterable)."
        )
