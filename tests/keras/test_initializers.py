"""Initializers: distributions, seeds, names and configs."""

import math

import numpy as np
import pytest

from distopt.core import Variable
from distopt.keras import initializers as I

SHAPE = (300, 200)
N = SHAPE[0] * SHAPE[1]
#: Expected variance of each, from its paper.
VARIANCES = {
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300,
    "lecun_normal": 1 / 300,
    "random_normal": 0.05**2,
    "random_uniform": 0.1**2 / 12,
}
RANDOM = [*VARIANCES, "truncated_normal", "orthogonal", "variance_scaling"]


@pytest.mark.parametrize("name", sorted(VARIANCES))
def test_mean_and_variance(name):
    values = np.asarray(I.get(name)(SHAPE), np.float64)
    sigma = math.sqrt(VARIANCES[name])
    assert abs(values.mean()) < 5 * sigma / math.sqrt(N)
    assert values.var() == pytest.approx(VARIANCES[name], rel=5 * math.sqrt(2 / N))


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("glorot_uniform", math.sqrt(6 / 500)),
        ("he_uniform", math.sqrt(6 / 300)),
        ("lecun_uniform", math.sqrt(3 / 300)),
        ("random_uniform", 0.05),
        ("glorot_normal", 2 * math.sqrt(2 / 500) / 0.87962566103423978),
        ("truncated_normal", 0.1),
    ],
)
def test_support(name, limit):
    largest = np.abs(np.asarray(I.get(name)(SHAPE))).max()
    assert 0.99 * limit < largest <= limit * (1 + 1e-6)


def test_convolution_fans():
    values = np.asarray(I.HeNormal(seed=1)((3, 3, 16, 64)), np.float64)
    assert values.var() == pytest.approx(2 / (9 * 16), rel=0.1)
    values = np.asarray(I.VarianceScaling(1.0, "fan_out", "untruncated_normal", seed=1)((3, 3, 16, 64)))
    assert values.var() == pytest.approx(1 / (9 * 64), rel=0.1)


@pytest.mark.parametrize("shape", [(20, 20), (30, 10), (10, 30), (3, 3, 4, 5)])
def test_orthogonal(shape):
    q = np.asarray(I.Orthogonal(gain=2.0)(shape), np.float64).reshape(-1, shape[-1])
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_seed(name):
    cls = type(I.get(name))
    one, two = cls(seed=5), cls(seed=5)
    np.testing.assert_array_equal(np.asarray(one((4, 3))), np.asarray(two((4, 3))))
    np.testing.assert_array_equal(np.asarray(one((4, 3))), np.asarray(one((4, 3))))
    assert (np.asarray(one((4, 3))) != np.asarray(cls(seed=6)((4, 3)))).any()
    assert (np.asarray(cls()((4, 3))) != np.asarray(cls()((4, 3)))).any()


def test_numpy_seed_repeats_a_program():
    state = np.random.get_state()
    try:
        draws = []
        for _ in range(2):
            np.random.seed(3)
            draws.append([np.asarray(I.GlorotUniform()((2, 2))) for _ in range(2)])
    finally:
        np.random.set_state(state)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0][0] != draws[0][1]).all()


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype(name, dtype):
    assert I.get(name)((4, 3), dtype).dtype == dtype
    assert I.get(name)((4, 3), dtype=dtype).shape == (4, 3)
    assert I.get(name)((4, 3)).dtype == np.float32


@pytest.mark.parametrize("name", RANDOM)
def test_integers_are_refused_but_by_random_uniform(name):
    if name == "random_uniform":
        values = np.asarray(I.RandomUniform(0, 10)((1000,), np.int64))
        assert set(values) == set(range(10))
    else:
        with pytest.raises(TypeError, match="floating-point"):
            I.get(name)((4, 3), np.int32)


def test_constants():
    assert np.asarray(I.Zeros()((2,), "int32")).tolist() == [0, 0]
    assert np.asarray(I.Ones()((2,))).tolist() == [1.0, 1.0]
    assert np.asarray(I.Constant(3)((2,))).tolist() == [3.0, 3.0]
    assert np.asarray(I.Constant([1, 2])((2,), "float64")).tolist() == [1.0, 2.0]
    assert np.asarray(I.Identity(2.0)((2, 3))).tolist() == [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    assert I.Zeros()(()).shape == ()
    assert Variable(I.Constant(3)((2, 2))).numpy().tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_errors():
    with pytest.raises(ValueError, match="two axes"):
        I.Orthogonal()((3,))
    with pytest.raises(ValueError, match="matrices"):
        I.Identity()((3,))
    with pytest.raises(ValueError, match="mode must be one of 'fan_in'"):
        I.VarianceScaling(mode="fan")
    with pytest.raises(ValueError, match="distribution must be one of"):
        I.VarianceScaling(distribution="gauss")
    with pytest.raises(ValueError, match="positive"):
        I.VarianceScaling(scale=0)
    with pytest.raises(ValueError, match=r"Unknown initializer: glorot\. Did you mean 'glorot"):
        I.get("glorot")
    with pytest.raises(ValueError, match="Could not interpret"):
        I.get(3)


@pytest.mark.parametrize(
    "one",
    [
        I.Constant(2.0),
        I.RandomUniform(0.0, 1.0, seed=1),
        I.TruncatedNormal(1.0, 2.0, seed=2),
        I.VarianceScaling(2.0, "fan_out", "uniform", seed=3),
        I.GlorotUniform(seed=4),
        I.Orthogonal(2.0, seed=5),
    ],
    ids=lambda i: type(i).__name__,
)
def test_config(one):
    again = I.deserialize(I.serialize(one))
    assert type(again) is type(one)
    assert again.get_config() == one.get_config()
    np.testing.assert_array_equal(np.asarray(again((3, 4))), np.asarray(one((3, 4))))


def test_get():
    assert I.get(None) is None
    assert isinstance(I.get(I.Zeros), I.Zeros)
    assert I.get(np.ones) is np.ones
    assert isinstance(I.get("GlorotUniform"), I.glorot_uniform)
