"""What an optimizer does about NaN and infinity in gradients, before anything is applied."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.engine.batch import GradientBatch
from distopt.engine.finite import nonfinite
from distopt.engine.step import StepEngine
from distopt.typing import Array

__all__ = ["POLICIES", "NonFinite", "finite_batch"]

#: What can be done: let it pass, raise on all replicas, leave the step out, put zeros in its place.
POLICIES = ("propagate", "raise", "skip", "zero")

_log = logging.getLogger("distopt")


class NonFinite:
    """The attribute ``on_nonfinite`` of optimizers."""

    _on_nonfinite: str = POLICIES[0]

    @property
    def on_nonfinite(self) -> str:
        """What is done about NaN and infinity in the gradients of any replica.

        ``"propagate"``: nothing, as in Keras. ``"raise"``: FloatingPointError on every replica.
        ``"skip"``: the step is left out on every replica. ``"zero"``: zeros take the place of such elements
        before gradients are aggregated.

        Raises:
            ValueError: set to anything else.
        """
        return self._on_nonfinite

    @on_nonfinite.setter
    def on_nonfinite(self, policy: str) -> None:
        if not isinstance(policy, str) or policy not in POLICIES:
            near = difflib.get_close_matches(str(policy), POLICIES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"on_nonfinite must be one of {', '.join(POLICIES)}; got {policy!r:.80}{hint}")
        self._on_nonfinite = policy


def finite_batch(policy: str, engine: StepEngine, call: str, batch: GradientBatch) -> GradientBatch | None:
    """The gradients to go on with, or None if this step is to be left out, on all replicas alike.

    Args:
        policy: one of :data:`POLICIES`, but the first.
        engine: that of this replica.
        call: who asks, for messages.
        batch: this replica's gradients, which are not changed.

    Raises:
        FloatingPointError: the policy is ``"raise"`` and some replica has such a gradient.
    """
    arrays = [_values(g) for g in batch.gradients]
    bad = nonfinite(arrays)
    if policy == "zero":
        return _with_zeros(batch, arrays, bad) if bad else batch
    found = engine.coordinator.gather_messages(call, _told(batch, arrays, bad) if bad else "")
    if not found:
        return batch
    text = "; ".join(f"replica {replica}: {words}" for replica, words in found.items())
    if policy == "raise":
        raise FloatingPointError(
            f"{call}: gradients that are not finite, nothing was applied. {text}. A smaller learning rate "
            "or a clip may help; on_nonfinite='skip' leaves such steps out"
        )
    if bad:
        _log.warning("%s: step left out, gradients are not finite. %s", call, text)
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


def _told(batch: GradientBatch, arrays: Sequence[Array], bad: Sequence[int]) -> str:
    """The first of them in words, and how many there are."""
    array, gradient = arrays[bad[0]], batch.gradients[bad[0]]
    wrong = np.argwhere(~np.isfinite(array))
    first = [int(i) for i in wrong[0]]
    value = array[tuple(first)]
    if isinstance(gradient, IndexedSlices):  # of the variable, not of the rows that were gathered
        first[0] = int(as_array(gradient.indices)[first[0]])
    count = f"{len(wrong):,} of {array.size:,} elements"
    others = f", and {len(bad) - 1} more variables" if len(bad) > 1 else ""
    name = batch.variables[bad[0]].name
    return f"the gradient of {name!r} is {value} at {first} ({count}{others})"
