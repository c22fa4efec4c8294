"""The arithmetic of ``optax.contrib.schedule_free``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from distopt.engine.rule import Rule
from distopt.engine.schedule_free import Z, decaying_coefficients, schedule_free_decaying
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.jax.rules.leaf_rule import LeafRule, LeafUpdate
from distopt.typing import Array

__all__ = ["ScheduleFreeRule", "check_base", "mean_of_z"]


@final
@dataclass(frozen=True)
class ScheduleFreeRule(LeafRule):
    """A base algorithm updates z with gradients at ``y = (1 - b1) * z + b1 * x``; x is the average of z.

    The leaf holds y, and z is a slot. Weight decay uses y. The weight of a step in the average is
    ``largest_rate**weight_lr_power``, where ``largest_rate`` is the largest learning rate so far.

    Args:
        base: the algorithm that updates z.
        averaged_rate: the learning rate that determines the weights; a number or a schedule.
        b1: the weight of x in y.
        weight_lr_power: see above.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """

    base: LeafRule
    averaged_rate: Any
    b1: float = 0.9
    weight_lr_power: float = 2.0
    name = "schedule_free"

    def rule(self) -> Rule:
        """The base rule, extended to update y with z."""
        found = self.base.rule()
        assert isinstance(found, Rule)
        return schedule_free_decaying(found)

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule. The share of this step in the average is 0 until :meth:`averaged` sets it."""
        base = self.base.coefficients(rate, 0.0, step)
        return {**base, **decaying_coefficients(self.b1, 0.0, rate * decay)}

    def averaged(self, coefficients: dict[str, float], share: float) -> dict[str, float]:
        """The coefficients with ``share``: the weight of this step, divided by the sum of all weights."""
        decay = coefficients["decay_of_y_t"]
        return {**coefficients, **decaying_coefficients(self.b1, share, decay)}

    def initial(self, slot: str) -> float:
        """The initial value of the base rule's slots. ScheduleFreeUpdates creates z."""
        return 0.0 if slot == Z else self.base.initial(slot)


def check_base(base: LeafUpdate) -> LeafRule:
    """Returns ``base`` if it can be made schedule-free.

    Raises:
        TypeError: it needs whole leaves or their norms, or is schedule-free already.
    """
    if (
        not isinstance(base, LeafRule)
        or isinstance(base, ScheduleFreeRule)
        or isinstance(base.rule(), TrustRatioRule)
    ):
        raise TypeError(
            f"schedule_free() takes an optimizer that updates each element independently, such as sgd or "
            f"adam; got {base.name}"
        )
    return base


def mean_of_z(y: Array, z: Array, b1: float) -> Array:
    """x, from y and z, which have the dtype of the arithmetic."""
    return (y - (1 - b1) * z) / b1
