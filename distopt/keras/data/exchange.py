"""What the replicas tell each other about their data."""

from __future__ import annotations

import json
from ast import literal_eval
from typing import Any

import numpy as np

from distopt.core.nest import map_structure
from distopt.core.tensor import as_array
from distopt.distribute import ReplicaContext

__all__ = ["describe", "told_by_all", "without_examples"]


def told_by_all(told: Any, context: ReplicaContext) -> list[Any]:
    """What each replica tells, by its number: a collective call.

    Args:
        told: numbers (those of NumPy too), texts, and lists and dicts of such; of any length on each replica.
        context: this replica's.
    """
    if context.num_replicas_in_sync == 1:
        return [told]
    own = json.dumps(told, default=lambda number: number.item()).encode()
    joined = as_array(context.all_gather(np.frombuffer(own + b"\0", np.uint8), axis=0)).tobytes()
    return [told if text == own else json.loads(text) for text in joined.split(b"\0")[:-1]]


def describe(batch: Any) -> Any:
    """What a batch is like, to be told: a text of dtype and lengths in the place of each array."""
    return map_structure(
        lambda array: array if array is None else f"{array.dtype.str} {array.shape[1:]}", batch
    )


def without_examples(description: Any) -> Any:
    """A batch such as :func:`describe` told of, of no example; what was a tuple is a list."""

    def empty(text: str | None) -> Any:
        if text is None:
            return None
        dtype, lengths = text.split(" ", 1)
        return np.zeros((0, *literal_eval(lengths)), dtype)

    return map_structure(empty, description)
