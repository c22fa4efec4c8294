"""Constraints: norms, errors, names and configs."""

import numpy as np
import pytest

from distopt.core import Variable
from distopt.core.custom_objects import custom_object_scope
from distopt.keras import constraints as C

W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
W[0, 0] = -1.0
EACH = [C.NonNeg(), C.MaxNorm(1.5), C.UnitNorm(), C.MinMaxNorm(0.5, 1.5, rate=0.3)]


def norms(w, axis=0):
    return np.sqrt(np.sum(np.asarray(w, np.float64) ** 2, axis=axis, keepdims=True))


@pytest.mark.parametrize("make", [np.asarray, Variable])
@pytest.mark.parametrize("constraint", EACH, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shape_and_dtype_stay(constraint, make, dtype):
    got = constraint(make(W.astype(dtype)))
    assert got.shape == W.shape
    assert got.dtype == dtype


def test_non_neg():
    got = np.asarray(C.NonNeg()(np.array([-1.0, 0.0, 2.0, np.nan])))
    np.testing.assert_array_equal(got, [0.0, 0.0, 2.0, np.nan])
    assert np.signbit(got[0])
    assert float(C.NonNeg()(Variable(-3.0))) == 0.0


def test_max_norm_keeps_small_ones():
    w = np.array([[0.3, 3.0], [0.4, 4.0]])
    got = C.MaxNorm(1.0)(w)
    np.testing.assert_allclose(got[:, 0], w[:, 0], rtol=1e-6)
    np.testing.assert_allclose(norms(got)[0, 1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, (0, 1), -1])
def test_unit_norm(axis):
    np.testing.assert_allclose(norms(C.UnitNorm(axis)(W), axis), 1.0, rtol=1e-5)


def test_min_max_norm_goes_part_of_the_way():
    n = norms(W)
    got = norms(C.MinMaxNorm(0.5, 1.0, rate=0.25)(W))
    np.testing.assert_allclose(got, 0.25 * np.clip(n, 0.5, 1.0) + 0.75 * n, rtol=1e-5)


def test_zero_weights_stay_finite():
    for constraint in EACH:
        np.testing.assert_array_equal(np.asarray(constraint(np.zeros((2, 2)))), 0)


@pytest.mark.parametrize("constraint", EACH[1:], ids=lambda c: type(c).__name__)
def test_scalar_has_no_axis(constraint):
    with pytest.raises(ValueError, match=r"got shape \(\)"):
        constraint(Variable(1.0))


@pytest.mark.parametrize("constraint", EACH, ids=lambda c: type(c).__name__)
def test_config(constraint):
    again = C.deserialize(C.serialize(constraint))
    assert type(again) is type(constraint)
    assert again.get_config() == constraint.get_config()


def test_get():
    assert C.get(None) is None
    assert isinstance(C.get("NonNeg"), C.NonNeg)
    assert C.get("max_norm").max_value == 2
    assert C.get({"class_name": "UnitNorm", "config": {"axis": 1}}).axis == 1
    assert C.get(np.tanh) is np.tanh
    with pytest.raises(ValueError, match=r"Unknown constraint: max_nrm\. Did you mean 'max_norm'"):
        C.get("max_nrm")
    with pytest.raises(ValueError, match="Could not interpret"):
        C.get(3)
    with custom_object_scope({"tanh": np.tanh}):
        assert C.get("tanh") is np.tanh
