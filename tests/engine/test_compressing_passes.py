"""The passes behind TopK and PowerSGD, beside plain NumPy."""

import numpy as np
import pytest

from distopt.engine.largest import keep_others, largest
from distopt.engine.low_rank import expand, keep_rest, left_factor, orthonormal, right_factor

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


@pytest.mark.parametrize(("dtype", "error"), [("f4", 2**-23), ("f8", 2**-52)])
@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(1, 1, 1), (3, 5, 2), (4, 16, 4), (7, 33, 3), (61, 15, 5), (129, 70, 16)]
)
def test_products_with_factors(rows, columns, rank, dtype, error):
    """Of all lengths around those of a vector, and of a block of rows. Against NumPy in long double."""
    gradient, rest = RNG.normal(size=(2, rows, columns)).astype(dtype)
    p, q = RNG.normal(size=(rows, rank)).astype(dtype), RNG.normal(size=(rank, columns)).astype(dtype)
    m, long_p, long_q = 0.75 * gradient.astype("g") + rest, p.astype("g"), q.astype("g")
    for found, want, terms in (
        (left_factor(gradient, rest, 0.75, q), m @ long_q.T, columns),
        (right_factor(gradient, rest, 0.75, p), long_p.T @ m, rows),
    ):
        np.testing.assert_allclose(found, want, rtol=0, atol=20 * error * (terms + 1))
    near = np.full_like(gradient, np.nan)
    expand(p, q, near)
    np.testing.assert_allclose(near, long_p @ long_q, rtol=0, atol=20 * error * rank)
    keep_rest(gradient, rest, 0.75, p, q)
    np.testing.assert_allclose(rest, m - long_p @ long_q, rtol=0, atol=20 * error * (rank + 1))
