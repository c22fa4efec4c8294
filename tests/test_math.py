"""The functions under TensorFlow's names."""

from typing import Any

import numpy as np
import pytest

from distopt import math
from distopt.autodiff import GradientTape
from distopt.core import Tensor, Variable, constant

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])


@pytest.mark.parametrize(("name", "reference"), [
    ("reduce_sum", np.sum), ("reduce_mean", np.mean), ("reduce_max", np.max), ("reduce_min", np.min),
    ("reduce_prod", np.prod),
])  # fmt: skip
def test_reductions(name: str, reference: Any) -> None:
    reduce = getattr(math, name)
    for axis in (None, 0, -1, (0, 1), [0, 1]):
        for keepdims in (False, True):
            result = reduce(constant(X), axis=axis, keepdims=keepdims)
            expected = reference(X, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
            assert isinstance(result, Tensor)
            np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize(("name", "reference"), [
    ("abs", np.abs), ("cos", np.cos), ("exp", np.exp), ("sin", np.sin), ("square", np.square),
    ("tanh", np.tanh), ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ("softplus", lambda x: np.log(1 + np.exp(x))),
])  # fmt: skip
def test_elementwise_functions_and_their_gradients(name: str, reference: Any) -> None:
    function = getattr(math, name)
    v = Variable(X)
    with GradientTape() as tape:
        y = function(v)
    np.testing.assert_allclose(y.numpy(), reference(X), rtol=1e-14)
    slope = (reference(X + 1e-6) - reference(X - 1e-6)) / 2e-6
    np.testing.assert_allclose(tape.gradient(y, v).numpy(), slope, rtol=1e-6, atol=1e-9)


def test_log_and_sqrt() -> None:
    np.testing.assert_allclose(math.log(constant([1.0, 4.0])).numpy(), np.log([1.0, 4.0]), rtol=1e-6)
    assert math.sqrt([4.0, 9.0]).numpy().tolist() == [2.0, 3.0]


def test_sigmoid_and_softplus_do_not_overflow() -> None:
    v = Variable(np.array([-1000.0, 0.0, 1000.0], np.float32))
    with GradientTape(persistent=True) as tape:
        s, p = math.sigmoid(v), math.softplus(v)
    assert s.numpy().tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(p.numpy(), [0.0, np.log(2.0), 1000.0], rtol=1e-6)
    assert tape.gradient(s, v).numpy().tolist() == [0.0, 0.25, 0.0]
    assert tape.gradient(p, v).numpy().tolist() == [0.0, 0.5, 1.0]
    assert s.dtype == p.dtype == np.float32


@pytest.mark.parametrize(("name", "reference"), [
    ("add", np.add), ("subtract", np.subtract), ("multiply", np.multiply), ("divide", np.divide),
    ("maximum", np.maximum), ("minimum", np.minimum), ("equal", np.equal), ("greater", np.greater),
    ("less", np.less),
])  # fmt: skip
def test_binary_functions(name: str, reference: Any) -> None:
    function = getattr(math, name)
    np.testing.assert_array_equal(function(constant(X), X[0]).numpy(), reference(X, X[0]))
    assert isinstance(function(2.0, 3.0), Tensor)


def test_numbers_take_the_tensors_dtype() -> None:
    x = constant(X, dtype=np.float16)
    assert math.maximum(x, 0.0).dtype == np.float16
    assert math.pow(2.0, x).dtype == np.float16
    assert math.reduce_sum([1.0, 2.0]).dtype == np.float32
    assert math.add(1, 2).dtype == np.int32


def test_matmul_transposes() -> None:
    a, b = constant(X), constant(X.T.copy())
    np.testing.assert_array_equal(math.matmul(a, b).numpy(), X @ X.T)
    np.testing.assert_array_equal(math.matmul(a, X, transpose_b=True).numpy(), X @ X.T)
    np.testing.assert_array_equal(math.matmul(a, X, transpose_a=True).numpy(), X.T @ X)


def test_argmax_cast_clip_ones_zeros() -> None:
    assert math.argmax(X).numpy().tolist() == [0, 1, 0]
    assert math.argmin(constant(X), axis=1).numpy().tolist() == [1, 2]
    cast = math.cast(math.greater(constant(X), 0.0), np.float32)
    assert cast.dtype == np.float32
    assert cast.numpy().tolist() == [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    assert math.clip_by_value([-3.0, 3.0], -1.0, 1.0).numpy().tolist() == [-1.0, 1.0]
    assert math.ones((2,)).dtype == np.float32
    assert math.zeros([1, 2], np.int64).numpy().tolist() == [[0, 0]]


def test_all_names_exist() -> None:
    assert all(callable(getattr(math, name)) for name in math.__all__)
