"""Moving averages of variables, updated in a pass after a step."""

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
    """How one step updates averages.

    Attributes:
        momentum: m in ``average = m * average + (1 - m) * variable``.
        overwrite: whether the variables are then overwritten with their averages.
    """

    momentum: float
    overwrite: bool


def move_averages(
    node: Communicator, variables: Sequence[Variable], averages: Sequence[Variable], step: AverageStep
) -> None:
    """Updates the averages; collective. A replica updates its share of shared ones, and all of private ones.

    Args:
        node: the replicas that share memory.
        variables: the same ones, in the same order, on all replicas.
        averages: the average of each variable, of its shape and dtype, shared if the variable is.
        step: how to update.
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
