"""Schedule-free steps with the numbers of ``optax.contrib.schedule_free``."""

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
    """Another algorithm moves z by gradients at ``y = (1 - b1) * z + b1 * x``, the leaf; x is z's mean.

    Weight decay is by y. The share of a step in the mean is that of ``largest_rate**weight_lr_power``.

    Args:
        base: the algorithm that moves z.
        averaged_rate: the learning rate that shares are made of; a number or a schedule.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """

    base: LeafRule
    averaged_rate: Any
    b1: float = 0.9
    weight_lr_power: float = 2.0
    name = "schedule_free"

    def rule(self) -> Rule:
        """That of z, which moves the leaf along."""
        found = self.base.rule()
        assert isinstance(found, Rule)
        return schedule_free_decaying(found)

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """As if the new z had no share in the mean; see :meth:`averaged`."""
        base = self.base.coefficients(rate, 0.0, step)
        return {**base, **decaying_coefficients(self.b1, 0.0, rate * decay)}

    def averaged(self, coefficients: dict[str, float], share: float) -> dict[str, float]:
        """The coefficients with the new z's share in the mean."""
        decay = coefficients["decay_of_y_t"]
        return {**coefficients, **decaying_coefficients(self.b1, share, decay)}

    def initial(self, slot: str) -> float:
        """The base's; z begins at the leaf."""
        return 0.0 if slot == Z else self.base.initial(slot)


def check_base(base: LeafUpdate) -> LeafRule:
    """The algorithm, if it can be made schedule-free.

    Raises:
        TypeError: it needs whole leaves or their norms.
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
    """x, from y and z, in what they are computed in."""
    return (y - (1 - b1) * z) / b1
