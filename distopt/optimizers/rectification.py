"""The rectification of RAdam, a number that all its forms have in common."""

from __future__ import annotations

__all__ = ["rectification"]


def rectification(beta_2: float, step: int, threshold: float = 5.0) -> float | None:
    """What the step is multiplied by; None while the mean of squares is of too few to be used.

    Args:
        beta_2: decay of the mean of squares, below 1.
        step: the number of this step, from 1.
        threshold: the smallest length of the mean, in steps, with which it is used; more than 4.

    Source: Liu et al. 2019, arXiv:1908.03265, algorithm 2.
    """
    power = beta_2**step
    longest = 2 / (1 - beta_2) - 1
    length = longest - 2 * step * power / (1 - power)
    if length < threshold:
        return None
    return float(((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5)
