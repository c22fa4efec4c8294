"""Clipping: values, norms, sparse gradients, and what is not finite."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable, constant
from distopt.transforms import ClipByGlobalNorm, ClipByNorm, ClipByValue

V = Variable([0.0, 0.0], name="v")
W = Variable([0.0, 0.0, 0.0], name="w")


def clipped(transform, *gradients):
    pairs = transform([(g, v) for g, v in zip(gradients, (V, W))])
    assert [v for _, v in pairs] == [V, W][: len(gradients)]
    return [np.asarray(g.values if isinstance(g, IndexedSlices) else g) for g, _ in pairs]


def f4(*values):
    return constant(np.array(values, "f4"))


def test_value():
    (g,) = clipped(ClipByValue(0.5), f4(-3, 0.25, np.nan, np.inf))
    np.testing.assert_array_equal(g, np.array([-0.5, 0.25, np.nan, 0.5], "f4"))


def test_norm_is_of_each_gradient_alone():
    small, large = clipped(ClipByNorm(1.0), f4(0.3, 0.4), f4(3, 4))
    np.testing.assert_array_equal(small, np.array([0.3, 0.4], "f4"))
    np.testing.assert_allclose(large, [0.6, 0.8], rtol=1e-7)


def test_norm_of_zeros_and_infinities():
    zero, infinite = clipped(ClipByNorm(1.0), f4(0, 0), f4(1, np.inf, 2))
    np.testing.assert_array_equal(zero, [0, 0])
    np.testing.assert_array_equal(infinite, [0, np.nan, 0])


def test_a_global_norm_over_several_dtypes_names_one_variable_of_each():
    pairs = [(np.zeros(1, "f8" if i == 7 else "f4"), Variable([0.0], name=f"v{i}")) for i in range(3000)]
    with pytest.raises(ValueError, match=r"got v0:0: float32, v7:0: float64\. Clip"):
        ClipByGlobalNorm(1.0)(pairs)


def test_global_norm_is_of_all_together():
    a, b = clipped(ClipByGlobalNorm(6.5), f4(3, 4), f4(12, 0, 0))
    np.testing.assert_allclose(a, [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(b, [6.0, 0.0, 0.0], rtol=1e-6)
    a, b = clipped(ClipByGlobalNorm(13.5), f4(3, 4), f4(12, 0, 0))
    np.testing.assert_allclose(a, [3, 4], rtol=1e-6)
    np.testing.assert_allclose(b, [12, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_global_norm_that_is_not_finite_makes_all_nan(bad):
    a, b = clipped(ClipByGlobalNorm(1.0), f4(1, 2), f4(1, bad, 0))
    assert np.isnan(a).all()
    assert np.isnan(b).all()


@pytest.mark.parametrize("transform", [ClipByValue(0), ClipByNorm(0), ClipByGlobalNorm(0)])
@pytest.mark.parametrize("values", [(3, -4), (0, 0)])
def test_zero_limit_gives_zeros(transform, values):
    (g,) = clipped(transform, f4(*values))
    assert (g == 0).all()


@pytest.mark.parametrize(
    ("transform", "want"),
    [(ClipByValue(1), [1, 1]), (ClipByNorm(1), [0.6, 0.8]), (ClipByGlobalNorm(1), [0.6, 0.8])],
)
def test_sparse_rows_count_as_given(transform, want):
    ((g, _),) = transform([(IndexedSlices(f4(3, 4), np.array([1, 1]), (2,)), V)])
    assert isinstance(g, IndexedSlices)
    np.testing.assert_allclose(np.asarray(g.values), want, rtol=1e-6)
    np.testing.assert_array_equal(g.indices, [1, 1])
    assert g.dense_shape == (2,)


def test_global_norm_of_several_dtypes():
    with pytest.raises(ValueError, match="v:0: float32, w:0: float64"):
        ClipByGlobalNorm(1.0)([(f4(1, 2), V), (np.ones(3), W)])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("transform", [ClipByValue(1.5), ClipByNorm(1.5), ClipByGlobalNorm(1.5)])
def test_dtype_is_kept(transform, dtype):
    (g,) = clipped(transform, np.array([3, 4], dtype))
    assert g.dtype == dtype
    assert np.linalg.norm(g.astype("f8")) <= 1.5 * 2**0.5 + 1e-3


def test_no_pairs():
    assert ClipByGlobalNorm(1.0)([]) == ClipByNorm(1.0)(()) == ClipByValue(1.0)(iter([])) == []
