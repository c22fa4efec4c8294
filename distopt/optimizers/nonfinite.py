"""NonFinitePolicy: what an optimizer does with NaN and infinity in gradients, before they are applied."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.distribute import require_replica_context
from distopt.engine.batch import GradientBatch
from distopt.engine.finite import nonfinite
from distopt.engine.step import StepEngine
from distopt.suggestions import did_you_mean
from distopt.typing import Array

__all__ = ["NonFinitePolicy"]

_log = logging.getLogger("distopt")


class NonFinitePolicy(Enum):
    """What to do with NaN and infinity in the gradients of any replica, before they are aggregated."""

    #: Do nothing, like Keras.
    PROPAGATE = "propagate"
    #: Raise FloatingPointError on every replica.
    RAISE = "raise"
    #: Skip the step on every replica.
    SKIP = "skip"
    #: Set such elements to zero.
    ZERO = "zero"

    @classmethod
    def of(cls, value: Any) -> NonFinitePolicy:
        """The policy of that value; ValueError if there is none."""
        known = [policy.value for policy in cls]
        if isinstance(value, str) and value in known:
            return cls(value)
        hint = did_you_mean(str(value), known).replace(" Did", "; did", 1)
        raise ValueError(f"on_nonfinite must be one of {', '.join(known)}; got {value!r:.80}{hint}")

    def apply(self, engine: StepEngine, call: str, batch: GradientBatch) -> GradientBatch | None:
        """Returns the gradients to use, or None if all replicas skip this step.

        Args:
            engine: the engine of this replica.
            call: the name of the call, for messages.
            batch: this replica's gradients, which are not changed.

        Raises:
            FloatingPointError: the policy is RAISE and a replica has such a gradient.
        """
        if self is NonFinitePolicy.PROPAGATE:
            return batch
        arrays = [_values(g) for g in batch.gradients]
        bad = nonfinite(arrays)
        if self is NonFinitePolicy.ZERO:
            return _with_zeros(batch, arrays, bad) if bad else batch
        found = engine.coordinator.gather_messages(call, _message(batch, arrays, bad) if bad else "")
        if not found:
            return batch
        context = require_replica_context(call)
        text = "; ".join(f"replica {context.numbers[r]}: {words}" for r, words in found.items())
        if self is NonFinitePolicy.RAISE:
            raise FloatingPointError(
                f"{call}: gradients are not finite; nothing was applied. {text}. A smaller learning rate "
                "or a clip may help; on_nonfinite='skip' skips such steps"
            )
        if bad and context.replica_id_in_sync_group == min(found):
            _log.warning("%s: step skipped, gradients are not finite. %s", call, text)
        return None


def _values(gradient: Any) -> Array:
    return as_array(gradient.values if isinstance(gradient, IndexedSlices) else gradient)


def _with_zeros(batch: GradientBatch, arrays: Sequence[Array], bad: Sequence[int]) -> GradientBatch:
    gradients = list(batch.gradients)
    for k in bad:
        gradient, values = gradients[k], np.where(np.isfinite(arrays[k]), arrays[k], arrays[k].dtype.type(0))
        if isinstance(gradient, IndexedSlices):
            gradients[k] = IndexedSlices(values, gradient.indices, gradient.dense_shape)
        else:
            gradients[k] = values
    return batch.with_gradients(gradients)


def _message(batch: GradientBatch, arrays: Sequence[Array], bad: Sequence[int]) -> str:
    """A message that names the first element that is not finite, and counts them."""
    array, gradient = arrays[bad[0]], batch.gradients[bad[0]]
    wrong = np.argwhere(~np.isfinite(array))
    first = [int(i) for i in wrong[0]]
    value = array[tuple(first)]
    if isinstance(gradient, IndexedSlices):  # the row of the variable, not of the slices
        first[0] = int(as_array(gradient.indices)[first[0]])
    count = f"{len(wrong):,} of {array.size:,} elements"
    others = f", and {len(bad) - 1} more variables" if len(bad) > 1 else ""
    name = batch.variables[bad[0]].name
    return f"the gradient of {name!r} is {value} at {first} ({count}{others})"
