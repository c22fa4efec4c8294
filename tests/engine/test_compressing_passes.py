"""The passes behind TopK and PowerSGD, beside plain NumPy."""

import numpy as np
import pytest

from distopt.engine.largest import keep_others, largest
from distopt.engine.low_rank import orthonormal

RNG = np.random.default_rng(0)


def gradients_of_all_kinds():
    n = 40_000
    spiky = np.zeros(n, "f4")
    spiky[5000:5003] = 1.0, -2.0, 1.0  # a sample sees nothing of it
    some_nan = RNG.normal(size=n).astype("f4")
    some_nan[[7, 30_000]] = np.nan
    return {
        "normal": RNG.normal(size=n).astype("f4"),
        "equal": np.full(n, -0.5, "f4"),
        "zero": np.zeros(n, "f4"),
        "spiky": spiky,
        "small and large": (RNG.normal(size=n) * 10.0 ** RNG.integers(-40, 30, n)).astype("f4"),
        "not finite": some_nan,
        "short": np.array([1.0, -1.0, 3.0], "f4"),
    }


@pytest.mark.parametrize("kind", gradients_of_all_kinds())
@pytest.mark.parametrize("part", [0.0, 0.01, 1.0])
def test_the_largest_are_found_exactly(kind, part):
    gradient = gradients_of_all_kinds()[kind]
    rest = np.zeros_like(gradient)
    count = max(int(part * gradient.size), 1)
    where, values = largest(gradient, rest, 1.0, count)
    order = np.argsort(-np.nan_to_num(np.abs(gradient), nan=np.inf), kind="stable")
    assert where.tolist() == np.sort(order[:count]).tolist()
    np.testing.assert_array_equal(values, gradient[where])
    keep_others(gradient, rest, 1.0, where)
    want = np.where(np.isfinite(gradient), gradient, 0)
    want[where] = 0
    np.testing.assert_array_equal(rest, want)


def test_dependent_columns_become_zero():
    p = RNG.normal(size=(50, 4)).astype("f4")
    p[:, 2] = p[:, 0] - 2 * p[:, 1]
    q = orthonormal(p)
    np.testing.assert_allclose(q.T @ q, np.diag([1, 1, 0, 1]), atol=1e-6)
    np.testing.assert_allclose(q @ (q.T @ p), p, atol=1e-5)  # they span the same
