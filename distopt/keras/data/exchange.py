"""What the replicas exchange about their data."""

from __future__ import annotations

import json
from ast import literal_eval
from typing import Any

import numpy as np

from distopt.core.nest import map_structure
from distopt.core.tensor import as_array
from distopt.distribute import ReplicaContext

__all__ = ["describe", "all_gather_object", "without_examples"]


def all_gather_object(value: Any, context: ReplicaContext) -> list[Any]:
    """What each replica gives, by its number: a collective call.

    Args:
        value: numbers (those of NumPy too), str, and lists and dicts of these; of any length on each replica.
        context: this replica's.
    """
    if context.num_replicas_in_sync == 1:
        return [value]
    mine = json.dumps(value, default=lambda number: number.item()).encode()
    joined = as_array(context.all_gather(np.frombuffer(mine + b"\0", np.uint8), axis=0)).tobytes()
    return [value if text == mine else json.loads(text) for text in joined.split(b"\0")[:-1]]


def describe(batch: Any) -> Any:
    """Describes a batch: a string of dtype and lengths for each array."""
    return map_structure(
        lambda array: array if array is None else f"{array.dtype.str} {array.shape[1:]}", batch
    )


def without_examples(description: Any) -> Any:
    """A batch such as :func:`describe` described, of no example; what was a tuple is a list."""

    def empty(text: str | None) -> Any:
        if text is None:
            return None
        dtype, lengths = text.split(" ", 1)
        return np.zeros((0, *literal_eval(lengths)), dtype)

    return map_structure(empty, description)
