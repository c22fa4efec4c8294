"""The rectification of RAdam, which all its variants share."""

from __future__ import annotations

from typing import Any

from distopt.optimizers.limits import NOT_NEGATIVE, within

__all__ = ["check_threshold", "rectification"]


def rectification(beta_2: float, step: float, threshold: float = 5.0) -> float | None:
    """The rectification of a step; None in the first steps, whose mean of squares is too uncertain.

    Args:
        beta_2: the decay rate of the mean of squares, below 1.
        step: the number of this step, from 1.
        threshold: the smallest effective length of the mean, in steps, for which it is used; above 4.

    Source: Liu et al. 2019, arXiv:1908.03265, algorithm 2.
    """
    power = beta_2**step
    longest = 2 / (1 - beta_2) - 1
    length = longest - 2 * step * power / (1 - power)
    if length < threshold:
        return None
    return float(((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5)


def check_threshold(threshold: Any, argument: str) -> float:
    """Returns ``threshold`` as a float.

    Args:
        threshold: for :func:`rectification`.
        argument: its name, for messages.

    Raises:
        TypeError: it is not a number.
        ValueError: it is at most 4. There the rectification would be the root of a negative number.
    """
    found = float(within(NOT_NEGATIVE, threshold, argument))
    if found <= 4:
        raise ValueError(f"{argument} must be above 4, received: {threshold}")
    return found
