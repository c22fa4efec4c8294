"""The variables of an optimizer by name, for checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from distopt.core.variable import Variable

if TYPE_CHECKING:
    from distopt.optimizers.optimizer import Optimizer

__all__ = ["NamedVariable", "make_weights", "named_variables", "sort_weights"]


class NamedVariable(NamedTuple):
    """A variable of an optimizer.

    Attributes:
        name: ``hyper/<name>`` for a hyperparameter, ``iter`` for the step count, else the variable's name
            without the optimizer's.
        variable: the variable.
        owner: for a slot, the variable that it belongs to.
        slot: for a slot, its name; else "".
    """

    name: str
    variable: Variable
    owner: Variable | None = None
    slot: str = ""


def make_weights(optimizer: Optimizer, variables: Iterable[Variable]) -> None:
    """Creates the variables that the optimizer needs for a step on ``variables`` and does not have yet."""
    with optimizer._slots.prefixed():
        optimizer._create_all_weights(list(variables))
        if optimizer._average is not None:
            optimizer._average.make(optimizer, list(variables))


def named_variables(optimizer: Optimizer) -> list[NamedVariable]:
    """The hyperparameters that are variables, sorted by name, then the weights in their order."""
    hypers = [NamedVariable(f"hyper/{name}", v) for name, v in optimizer._hyper_variables().items()]
    slots = {id(slot): (owner, name) for owner, name, slot in optimizer._slot_owners()}
    weights = []
    for weight in optimizer.weights:
        owner, slot = slots.get(id(weight), (None, ""))
        name = weight.name.removesuffix(":0").removeprefix(optimizer._slots.optimizer + "/")
        weights.append(NamedVariable("iter" if weight is optimizer.iterations else name, weight, owner, slot))
    return hypers + weights


def sort_weights(optimizer: Optimizer, key: Callable[[Variable], int]) -> None:
    """Sorts the optimizer's weights by ``key``."""
    optimizer._slots.weights.sort(key=key)
