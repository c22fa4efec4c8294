"""What an optimizer of optax does with one leaf: slots, coefficients and arithmetic."""

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
    """One algorithm of optax with its numbers, without any state: a frozen dataclass.

    Slots have the names that optax has for them in its states.
    """

    #: The function of optax that has these numbers; for messages.
    name: ClassVar[str]

    @abstractmethod
    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """The slots that a leaf of this shape needs, with their shapes."""

    @abstractmethod
    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """The numbers of a step by name, in double precision.

        Args:
            rate: the learning rate.
            decay: the decoupled weight decay of these leaves; 0 for algorithms that have none.
            step: the number of this step, from 1.
        """

    def not_adapted(self, coefficients: dict[str, float]) -> dict[str, float]:
        """The coefficients of leaves that are to have no trust ratios."""
        raise TypeError(f"{self.name}() has no trust ratios to exclude")

    def initial(self, slot: str) -> float:
        """What a new slot is filled with."""
        return 0.0


class LeafRule(LeafUpdate):
    """An algorithm that updates each element from its own gradient and state alone, in compiled code.

    There is a coefficient for each name in ``rule().coefficients``, cast to what the leaf is computed in.
    """

    @abstractmethod
    def rule(self) -> AnyRule:
        """The rule that the options select."""

    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """The rule's slots, all like the leaf."""
        return dict.fromkeys(self.rule().slots, shape)


class WholeLeafUpdate(LeafUpdate):
    """An algorithm that needs the whole leaf, such as its norm: one replica of a node updates it."""

    @abstractmethod
    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """Updates a leaf and its slots in place.

        Args:
            w: the leaf, contiguous; float16 and bfloat16 as float32. So are the others.
            g: its gradient, which is not to be changed.
            slots: its slots, by name.
            numbers: the coefficients.
        """

    def cost(self, shape: Shape) -> float:
        """What the update of a leaf of this shape costs, in elements that are read and written."""
        return float(prod(shape))


def bias_correction(decay: float, step: int) -> float:
    """What makes a mean of ``step`` values of one that began with zero."""
    return 1 / (1 - decay**step)


def mean_weights(b1: float, step: int, nesterov: bool) -> tuple[float, float]:
    """What the mean of the gradient and the gradient are multiplied by to make the direction of a step.

    With ``nesterov`` they make the mean that the next step will have, as far as this step knows it.
    """
    mean = bias_correction(b1, step)
    return (b1 * bias_correction(b1, step + 1), (1 - b1) * mean) if nesterov else (mean, 0.0)


def checked(rule: LeafUpdate, *, decays: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> None:
    """Raises ValueError if a number of the rule is out of range.

    Args:
        rule: whose.
        decays: the names of those that must be in [0, 1), as a bias correction divides by ``1 - decay``.
        others: the names of those that must not be negative; None is left alone.
    """
    for names, limit in ((decays, BELOW_ONE), (others, NOT_NEGATIVE)):
        for name in names:
            if getattr(rule, name) is not None:
                within(limit, getattr(rule, name), f"{name} of {rule.name}()")
