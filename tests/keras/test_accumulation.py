"""Gradients added up over several batches."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable
from distopt.keras.training.accumulation import GradientAccumulator


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_mean_over_many_examples_stays_in_the_dtypes_range(dtype: str, sparse: bool) -> None:
    v = Variable(np.zeros((2, 1), dtype))
    gradient = np.full((2, 1), 60000, dtype)
    rows = IndexedSlices(gradient, np.arange(2), (2, 1)) if sparse else gradient
    accumulator = GradientAccumulator(2)
    assert not accumulator.add([rows], [v], 50_000)
    assert accumulator.add([rows], [v], 30_000)
    [(mean, _)] = accumulator.take()
    dense = mean.to_dense() if sparse else mean
    assert dense.dtype == np.dtype(dtype)
    assert dense.ravel().tolist() == pytest.approx([60000.0] * 2, rel=1e-3)
