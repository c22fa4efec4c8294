"""Schedule-free rules: another rule moves z, variables lie between z and its mean x."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from distopt.engine.rule import Rule, Sparse

__all__ = ["Z", "schedule_free"]

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
