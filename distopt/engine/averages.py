"""Moving averages of variables: a pass after a step, over variables that all have updated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from distopt.comm import Communicator
from distopt.core.split import share
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine import kernels
from distopt.engine.rule import Rule

__all__ = ["AverageStep", "move_averages"]


def _average(average, w, momentum, rate):  # type: ignore[no-untyped-def]
    return (momentum * average + rate * w,)


AVERAGE = Rule("moving average", _average)


class AverageStep(NamedTuple):
    """What one step does to averages.

    Attributes:
        momentum: what an average keeps of itself; the rest of it comes from the variable.
        overwrite: whether the variables then become their averages.
    """

    momentum: float
    overwrite: bool


def move_averages(
    node: Communicator, variables: Sequence[Variable], averages: Sequence[Variable], step: AverageStep
) -> None:
    """Moves the averages: this replica's share of what the node's replicas share, and all of its own.

    Args:
        node: the replicas that share memory.
        variables: the same ones, in the same order, on all of them.
        averages: each one's, of its shape and dtype, in memory of the same kind.
        step: what to do.
    """
    shared = False
    for variable, average in zip(variables, averages, strict=True):
        low, high = 0, variable.size
        if variable.storage.shared:
            low, high, shared = *share(variable.size, node.rank, node.size), True
        w, mean = (as_array(v).reshape(-1)[low:high] for v in (variable, average))
        kernels.dense(AVERAGE, mean, w, (), _coefficients(step, AVERAGE.arithmetic_dtype(variable.dtype)))
        average.storage.changed()
        if step.overwrite:
            w[...] = mean
            variable.storage.changed()
    if shared and node.size > 1:
        node.barrier()


def _coefficients(step: AverageStep, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    momentum = dtype.type(step.momentum)
    return momentum, dtype.type(1) - momentum
