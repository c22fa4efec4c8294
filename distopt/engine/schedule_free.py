"""Schedule-free rules: another rule moves z, variables lie between z and its mean x."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from distopt.engine.rule import Rule, Sparse, where

__all__ = ["Z", "decaying_coefficients", "schedule_free", "schedule_free_decaying"]

#: The slot of what the inner rule updates.
Z = "z"


@cache
def schedule_free(rule: Rule) -> Rule:
    """The rule that trains at ``y = (1 - beta_1) * z + beta_1 * x``.

    ``rule`` updates z by the gradient at y; x, which is recovered from y and z, becomes
    ``(1 - share) * x + share * z``. A sparse gradient counts as a dense one with zeros.

    Args:
        rule: the update of z, which must depend on z by a sum only.

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
    """As :func:`schedule_free`, with a decay of z by y, and z that may begin at y.

    ``z' = update(z - decay_t * y)``, and y goes on to ``(1 - share) * y + share * z + new_share * (z' - z)``,
    where ``new_share = 1 - beta * (1 - share)``: x is not needed. Where ``begins_t`` is not ``none_t``, which
    is 0, z is y before. A sparse gradient counts as a dense one with zeros.

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
        beta: how far y is from z on the way to x.
        share: of the new z in x.
        decay: times y is subtracted from z.
        begins: whether z is y at first.
    """
    return {
        "share_t": share,
        "one_minus_share_t": 1 - share,
        "new_share_t": 1 - beta * (1 - share),
        "decay_of_y_t": decay,
        "begins_t": float(begins),
        "none_t": 0.0,
    }
