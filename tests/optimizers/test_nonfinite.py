"""The attribute ``on_nonfinite``; what it does is in the contracts."""

import numpy as np
import pytest

from distopt.engine.finite import nonfinite
from distopt.optimizers import SGD, Adam


def test_it_is_part_of_the_config_where_it_is_not_the_default():
    assert "on_nonfinite" not in Adam().get_config()
    config = Adam(on_nonfinite="skip").get_config()
    assert config["on_nonfinite"] == "skip"
    assert Adam.from_config(config).on_nonfinite == "skip"


@pytest.mark.parametrize("policy", [None, 1, "", "skipp", ["skip"], np.ones(3)])
def test_another_policy_is_refused_whole(policy):
    with pytest.raises(ValueError, match="propagate, raise, skip, zero"):
        SGD(on_nonfinite=policy)
    optimizer = SGD(on_nonfinite="zero")
    with pytest.raises(ValueError, match="propagate, raise, skip, zero"):
        optimizer.on_nonfinite = policy
    assert optimizer.on_nonfinite == "zero"


def test_the_nearest_policy_is_named():
    with pytest.raises(ValueError, match="did you mean 'propagate'"):
        SGD(on_nonfinite="propogate")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "g"])
@pytest.mark.parametrize("size", [0, 1, 15, 64, 1000])
def test_arrays_with_one_bad_element_are_found(dtype, size):
    rng = np.random.default_rng(size)
    arrays = [(rng.normal(size=(size, 2)) * 1000).astype(dtype)[:, k % 2] for k in range(6)]
    want = []
    if size and np.dtype(dtype).kind == "f":
        for k, value in ((1, np.nan), (4, -np.inf), (5, np.inf)):
            arrays[k][rng.integers(size)] = value
            want.append(k)
        arrays[0][0] = np.finfo(dtype).max
        arrays[2][0] = -np.finfo(dtype).smallest_subnormal
    assert nonfinite(arrays) == want
