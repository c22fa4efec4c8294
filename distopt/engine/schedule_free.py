"""Schedule-free rules: an inner rule updates z, and the variable y is between z and the average x of z."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from distopt.engine.rule import Rule, Sparse, where

__all__ = ["Z", "decaying_coefficients", "schedule_free", "schedule_free_decaying"]

#: The name of the slot that the inner rule updates.
Z = "z"


@cache
def schedule_free(rule: Rule) -> Rule:
    """The rule whose variable is ``y = (1 - beta_1) * z + beta_1 * x``.

    ``rule`` updates z with the gradient at y. x is computed from y and z, and becomes
    ``(1 - share) * x + share * z``. A sparse gradient is treated as a dense one with zeros.

    Args:
        rule: the update of z, which must only add something to z that does not depend on z.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """
    update, slots = rule.function, len(rule.slots)
    behind = slots + 1
    end = behind + len(rule.coefficients)

    def averaged(y, g, *others):  # type: ignore[no-untyped-def]
        z, beta, rest, share, left = others[slots], *others[end:]
        new = update(z, g, *others[:slots], *others[behind:end])
        x = left * ((y - rest * z) / beta) + share * new[0]
        return (rest * new[0] + beta * x,) + new[1:] + (new[0],)  # noqa: RUF005

    averaged.__name__ = f"{update.__name__}_schedule_free"
    return replace(
        rule,
        name=f"schedule-free {rule.name}",
        function=averaged,
        slots=(*rule.slots, Z),
        sparse=Sparse.ALL,
        inner=rule,
        added=("beta_1_t", "one_minus_beta_1_t", "share_t", "one_minus_share_t"),
    )


@cache
def schedule_free_decaying(rule: Rule) -> Rule:
    """Like :func:`schedule_free`, but z decays by a multiple of y, and z may be initialized from y.

    ``z' = update(z - decay_t * y)``, and y becomes ``(1 - share) * y + share * z + new_share * (z' - z)``,
    where ``new_share = 1 - beta * (1 - share)``; this needs no x. If ``begins_t != none_t``, z is y before
    the update; ``none_t`` is always 0. A sparse gradient is converted to a dense one with zeros.

    Args:
        rule: the update of z.
    """
    update, slots = rule.function, len(rule.slots)
    behind = slots + 1
    end = behind + len(rule.coefficients)

    def averaged(y, g, *others):  # type: ignore[no-untyped-def]
        share, left, new_share, decay, begins, none = others[end:]
        z = where(begins != none, y, others[slots])
        new = update(z - decay * y, g, *others[:slots], *others[behind:end])
        return (left * y + share * z + new_share * (new[0] - z),) + new[1:] + (new[0],)  # noqa: RUF005

    averaged.__name__ = f"{update.__name__}_schedule_free_decaying"
    return replace(
        rule,
        name=f"schedule-free {rule.name} with decay",
        function=averaged,
        slots=(*rule.slots, Z),
        sparse=Sparse.DENSE,
        inner=rule,
        added=("share_t", "one_minus_share_t", "new_share_t", "decay_of_y_t", "begins_t", "none_t"),
    )


def decaying_coefficients(
    beta: float, share: float, decay: float = 0.0, begins: bool = False
) -> dict[str, float]:
    """The coefficients that :func:`schedule_free_decaying` adds.

    Args:
        beta: the share of x in y.
        share: the share of the new z in x.
        decay: the multiple of y that is subtracted from z.
        begins: whether to initialize z from y in this step.
    """
    return {
        "share_t": share,
        "one_minus_share_t": 1 - share,
        "new_share_t": 1 - beta * (1 - share),
        "decay_of_y_t": decay,
        "begins_t": float(begins),
        "none_t": 0.0,
    }
