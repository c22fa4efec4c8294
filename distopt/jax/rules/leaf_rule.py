"""LeafUpdate: the update algorithm of an optax optimizer, for one leaf."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

from distopt.engine.trust_ratio import AnyRule
from distopt.optimizers.limits import BELOW_ONE, NOT_NEGATIVE, within
from distopt.typing import Array, Shape

__all__ = ["LeafRule", "LeafUpdate", "WholeLeafUpdate", "bias_correction", "checked", "mean_weights"]


class LeafUpdate(ABC):
    """The algorithm of one optimizer with its options. Subclasses are frozen dataclasses, without state.

    Slots have the names that optax uses in its states.
    """

    #: The name of the optax function, for messages.
    name: ClassVar[str]

    @abstractmethod
    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """The names and shapes of the slots of a leaf of this shape."""

    @abstractmethod
    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """The coefficients of a step by name, in double precision.

        Args:
            rate: the learning rate.
            decay: the weight decay; 0 for leaves or algorithms without.
            step: the number of this step, from 1.
        """

    def not_adapted(self, coefficients: dict[str, float]) -> dict[str, float]:
        """The coefficients for leaves that the trust mask excludes from trust ratios.

        Raises:
            TypeError: the algorithm has no trust ratios.
        """
        raise TypeError(f"{self.name}() has no trust ratios to exclude")

    def initial(self, slot: str) -> float:
        """The initial value of all elements of a slot."""
        return 0.0


class LeafRule(LeafUpdate):
    """An algorithm that updates each element independently, as a compiled scalar function.

    :meth:`coefficients` returns a value for each name in ``rule().coefficients``. Values are cast to the
    dtype in which the rule computes.
    """

    @abstractmethod
    def rule(self) -> AnyRule:
        """The compiled rule for the options."""

    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """The rule's slots, all of the leaf's shape."""
        return dict.fromkeys(self.rule().slots, shape)


class WholeLeafUpdate(LeafUpdate):
    """An algorithm in NumPy that needs whole leaves. One replica of each node runs it for a leaf."""

    @abstractmethod
    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """Updates a leaf and its slots in place.

        All arrays are contiguous. Those of float16 and bfloat16 leaves are passed in float32.

        Args:
            w: the leaf.
            g: the gradient, of the same shape. It must not be changed.
            slots: the slots by name.
            numbers: the coefficients of this step.
        """

    def cost(self, shape: Shape) -> float:
        """The relative cost of the update, by which leaves are distributed over the replicas of a node.

        The unit is that of an algorithm that reads and writes each element once.
        """
        return float(prod(shape))


def bias_correction(decay: float, step: int) -> float:
    """The factor that corrects a running mean, after ``step`` steps, for its initial value 0."""
    return 1 / (1 - decay**step)


def mean_weights(b1: float, step: int, nesterov: bool) -> tuple[float, float]:
    """The factors ``(a, b)`` of the update direction ``a * mean + b * gradient``, with the bias correction.

    Without ``nesterov``, b is 0. With it, the direction estimates the running mean of the next step.
    """
    mean = bias_correction(b1, step)
    return (b1 * bias_correction(b1, step + 1), (1 - b1) * mean) if nesterov else (mean, 0.0)


def checked(rule: LeafUpdate, *, decays: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> None:
    """Raises ValueError if an option of the rule is out of range.

    Args:
        rule: the rule.
        decays: the names of options that must be in [0, 1), because bias corrections divide by ``1 - decay``.
        others: the names of options that must not be negative. They may be None.
    """
    for names, limit in ((decays, BELOW_ONE), (others, NOT_NEGATIVE)):
        for name in names:
            if getattr(rule, name) is not None:
                within(limit, getattr(rule, name), f"{name} of {rule.name}()")
