"""Sums of squares."""

import math

import numpy as np
import pytest

from distopt.collectives import PIECE
from distopt.engine import norms


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("size", [0, 1, 511, 513, PIECE, PIECE + 1, 3 * PIECE - 5])
def test_value(dtype, size):
    x = np.random.default_rng(size).normal(size=size).astype(dtype)
    sums = norms.sums_of_squares(x)
    assert sums.dtype == np.float64
    assert len(sums) == math.ceil(size / PIECE)
    exact = math.fsum(float(v) ** 2 for v in x)
    assert norms.sum_of_pieces([sums]) == pytest.approx(exact, rel=1e-13)


def test_shards_of_whole_blocks_have_the_same_bits():
    x = np.random.default_rng(0).normal(size=4 * PIECE + 77).astype("f4")
    cut = 3 * PIECE
    parts = np.concatenate([norms.sums_of_squares(x[:cut]), norms.sums_of_squares(x[cut:])])
    assert parts.tobytes() == norms.sums_of_squares(x).tobytes()


def test_what_is_not_finite_stays():
    assert math.isinf(norms.sum_of_pieces([norms.sums_of_squares(np.array([1, np.inf], "f4"))]))
    assert math.isnan(norms.sum_of_pieces([norms.sums_of_squares(np.array([1, np.nan], "f4"))]))


def test_large_float32_values_do_not_overflow():
    x = np.full(3, 1e30, "f4")
    assert norms.sum_of_pieces([norms.sums_of_squares(x)]) == pytest.approx(3e60, rel=1e-6)
