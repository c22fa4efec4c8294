"""What can be found out to be wrong before training starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.nest import flatten
from distopt.distribute import ReplicaContext
from distopt.keras import losses
from distopt.keras.data.exchange import all_gather_object
from distopt.typing import Array

if TYPE_CHECKING:
    from distopt.keras.model import Model

__all__ = [
    "check_alike",
    "check_labels",
    "check_labels_given",
    "check_numbers",
    "check_same_arrays",
    "check_shares",
]

#: Rows looked through at a time, so that a large array needs no large mask.
_ROWS = 1 << 14


def check_numbers(data: Any, name: str) -> None:
    """Raises ValueError if an array in memory holds NaN; ``np.memmap`` is not read through."""
    if data is None:
        return
    for leaf in flatten(data):
        if leaf.dtype.kind not in "fc":
            if leaf.dtype.kind not in "biu":
                raise TypeError(
                    f"{name} must hold numbers; got dtype {leaf.dtype}: convert strings to numbers first"
                )
            continue
        if is_mapped(leaf):
            continue
        for start in range(0, len(leaf), _ROWS):
            part: Array = leaf[start : start + _ROWS]
            if np.isnan(part).any():
                row = start + int(np.argwhere(np.isnan(part))[0][0])
                raise ValueError(f"{name} has NaN, first in example {row}: remove or fill such examples")


def check_labels_given(model: Model, y: Any) -> None:
    """Raises ValueError if there are no labels and the loss or a metric of ``compile`` compares with them."""
    compiled = model.compiled
    for what, given in (("loss", compiled.loss.given), ("metrics", compiled.metrics.given)):
        if given and y is None:
            verb = "needs" if what == "loss" else "need"
            raise ValueError(f"model {model.name!r} was given no labels (y), which its {what} {verb}")


def is_mapped(array: Array) -> bool:
    """Whether it lies in a file, of which only this replica's share shall be read."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base  # a view of a view keeps the one it was taken of
    return isinstance(owner, np.memmap)


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
                "sparse_categorical_crossentropy takes one class number for each example; got labels of "
                f"shape {_batch(y)}. For one-hot labels use categorical_crossentropy."
            )
        values = y if whole is None or is_mapped(whole) else whole
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(
                f"labels must be from 0 to {classes - 1}, because the model has {classes} outputs; got "
                f"labels from {values.min()} to {values.max()}"
            )
        if values.dtype.kind == "f" and (values != np.floor(values)).any():
            raise ValueError("labels must be class numbers, which are integers; got some that are not")
        return
    if _is(loss, "categorical_crossentropy") and y.shape != y_pred.shape:
        raise ValueError(
            f"categorical_crossentropy takes one-hot labels of the output's shape {_batch(y_pred)}; got "
            f"{_batch(y)}. For class numbers use sparse_categorical_crossentropy."
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


def check_alike(call: str, arguments: dict[str, Any], context: ReplicaContext) -> None:
    """Raises ValueError, on all replicas alike, if an argument is not the same on all of them.

    Args:
        call: the user's, for the error text.
        arguments: name -> number, str or None.
        context: this replica's; does nothing where it is the only one.
    """
    if context.num_replicas_in_sync == 1:
        return
    _compare(call, arguments, all_gather_object(arguments, context))


def check_same_arrays(
    call: str, arguments: dict[str, Any], parts: Sequence[Any], context: ReplicaContext
) -> None:
    """Like :func:`check_alike`, and the replicas must have been given the same whole arrays.

    A replica that was given other examples is found by their number, or by the first and last of them.
    """
    if context.num_replicas_in_sync == 1:
        return
    leaves = [leaf for part in parts if part is not None for leaf in flatten(part)]
    ends = [_mark(leaf[row]) for leaf in leaves if not is_mapped(leaf) for row in (0, -1)]
    gathered = all_gather_object({**arguments, "examples": len(leaves[0]), "ends": ends}, context)
    _compare(call, arguments, gathered)
    counts = [one["examples"] for one in gathered]
    if counts != counts[:1] * len(counts):
        raise ValueError(f"{_SAME}; the numbers of examples differ ({_by_replica(counts)}). {_BATCHES}")
    for replica, one in enumerate(gathered):
        if not all(map(_near, one["ends"], gathered[0]["ends"])):
            raise ValueError(
                f"{_SAME}; the examples of replica {replica} differ from those of replica 0. {_BATCHES}"
            )


_SAME = "every replica must pass the same whole arrays, of which each takes its share"
_BATCHES = "Pass data that is already distributed as an iterable of batches."


def _compare(call: str, arguments: dict[str, Any], gathered: list[dict[str, Any]]) -> None:
    for name in arguments:
        values = [one.get(name) for one in gathered]
        if values != values[:1] * len(values):
            raise ValueError(f"{call}: {name} must be the same on all replicas; got {_by_replica(values)}")


def _by_replica(values: list[Any]) -> str:
    return ", ".join(f"replica {r}: {value}" for r, value in enumerate(values))


def _mark(example: Any) -> tuple[float, float]:
    """A number that distinguishes an example from others, and its scale."""
    elements = np.ravel(np.real(example)).astype(np.float64)
    mark, scale = float(elements @ _directions(elements.size)), math.sqrt(elements @ elements)
    return (mark, scale) if math.isfinite(mark) else (0.0, 0.0)


@lru_cache(maxsize=16)
def _directions(count: int) -> Array:
    waves: Array = np.cos(np.arange(1.0, count + 1))
    return waves


def _near(one: list[float], other: list[float]) -> bool:
    """Whether two marks are equal but for what different machines make of the same arithmetic."""
    return abs(one[0] - other[0]) <= 1e-4 * max(one[1], other[1])
