"""The error function, which NumPy lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.autodiff import defvjp, primitive
from distopt.typing import Array

__all__ = ["erf"]

# Rational approximations of W. J. Cody, "Rational Chebyshev approximations for the error function",
# Math. Comp. 23 (1969): numerator and denominator, lowest power last, good to 1e-16.
_NEAR = (
    (0.18577770618460315, 3.1611237438705655, 113.86415415105016, 377.485237685302, 3209.3775891384694),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        2.1531153547440383e-08,
        0.5641884969886701,
        8.883149794388377,
        66.11919063714163,
        298.6351381974001,
        881.952221241769,
        1712.0476126340707,
        2051.0783778260716,
        1230.3393547979972,
    ),
    (
        1.0,
        15.744926110709835,
        117.6939508913125,
        537.1811018620099,
        1621.3895745666903,
        3290.7992357334597,
        4362.619090143247,
        3439.3676741437216,
        1230.3393548037495,
    ),
)
_FAR = (
    (
        0.016315387137302097,
        0.30532663496123236,
        0.36034489994980445,
        0.12578172611122926,
        0.016083785148742275,
        0.0006587491615298378,
    ),
    (
        1.0,
        2.568520192289822,
        1.8729528499234673,
        0.5279051029514285,
        0.06051834131244132,
        0.0023352049762686918,
    ),
)


def _ratio(polynomials: tuple[Sequence[float], Sequence[float]], x: Array) -> Array:
    return np.asarray(np.polyval(polynomials[0], x) / np.polyval(polynomials[1], x))


@primitive
def erf(x: Array) -> Array:
    """``2 / sqrt(pi)`` times the integral of ``exp(-t ** 2)`` from 0 to x, elementwise, in x's dtype."""
    wide = np.asarray(x, np.float64)
    size = np.abs(wide)
    near, far = size <= 0.46875, size > 4.0
    # Each formula is computed everywhere on arguments of its own range, then chosen from.
    small = np.where(near, wide, 0.0)
    result = small * _ratio(_NEAR, small * small)
    middle = np.where(near | far, 1.0, size)
    tail = np.exp(-middle * middle) * _ratio(_MIDDLE, middle)
    if far.any():
        large = np.where(far, np.minimum(size, 30.0), 5.0)
        square = 1 / (large * large)
        beyond = np.exp(-large * large) * (1 / math.sqrt(math.pi) - square * _ratio(_FAR, square)) / large
        tail = np.where(far, beyond, tail)
    result = np.where(near, result, np.copysign(1 - tail, wide))
    return np.where(np.isnan(wide), wide, result).astype(x.dtype)


def _erf_vjp(_ans: Any, x: Any) -> Callable[[Any], Any]:
    return lambda g: g * (2 / math.sqrt(math.pi)) * np.exp(-np.square(x))


defvjp(erf, _erf_vjp)
