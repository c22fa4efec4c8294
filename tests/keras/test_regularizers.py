"""Regularizers: penalties, names and configs."""

import numpy as np
import pytest

from distopt.core import Variable
from distopt.keras import regularizers as R

X = np.array([[1.0, -2.0], [3.0, 0.0]], np.float32)


@pytest.mark.parametrize("make", [np.asarray, Variable])
def test_penalties(make):
    x = make(X)
    assert float(R.L1(0.5)(x)) == 3.0
    assert float(R.L2(0.5)(x)) == 7.0
    assert float(R.L1L2(0.5, 0.25)(x)) == 6.5
    assert R.L1L2(0.5, 0.25)(x).dtype == np.float32


def test_defaults_of_keras():
    assert R.L1().l1 == R.L2().l2 == 0.01
    assert R.L1L2().get_config() == {"l1": 0.0, "l2": 0.0}
    assert R.l1_l2().get_config() == R.get("l1_l2").get_config() == {"l1": 0.01, "l2": 0.01}
    assert R.get("l2").get_config() == {"l2": 0.01}


@pytest.mark.parametrize("one", [R.L1(0.3), R.L2(0.2), R.L1L2(0.1, 0.2)], ids=lambda r: type(r).__name__)
def test_config(one):
    again = R.deserialize(R.serialize(one))
    assert type(again) is type(one)
    assert again.get_config() == one.get_config()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "1", None, True])
def test_factor_must_be_finite(bad):
    with pytest.raises(ValueError, match="finite number"):
        R.L2(bad)


def test_get():
    assert R.get(None) is None
    assert R.get(np.sum) is np.sum
    with pytest.raises(ValueError, match="Unknown regularizer: l3"):
        R.get("l3")
    with pytest.raises(ValueError, match="Could not interpret"):
        R.get(0.1)
