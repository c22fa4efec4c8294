"""Names of the ``tf`` namespace that ported programs use: TensorFlow's arguments, and gradients."""

import logging

import numpy as np
import pytest

import distopt as tf
from distopt.compat import graphs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
INF = float("inf")


def slope(function, x, step=1e-6):
    """The gradient of the sum of ``function(x)``, by finite differences."""
    result = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        result[i] = (np.sum(np.asarray(function(up))) - np.sum(np.asarray(function(down)))) / (2 * step)
    return result


def gradient(function, x):
    v = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = function(v)
    found = tape.gradient(y, v)
    return None if found is None else found.numpy()


def second(function, x, c):
    """The gradient of ``sum(c * gradient)``, by tapes, and by finite differences of the gradient."""
    v = tf.Variable(x)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            y = function(v)
        dot = np.sum(inner.gradient(y, v) * c)
    found = outer.gradient(dot, v, unconnected_gradients="zero")
    return found.numpy(), slope(lambda x: np.sum(gradient(function, x) * c), x)


CASES = {
    "reduce_sum": (lambda x: tf.reduce_sum(x, axis=1) ** 2, lambda x: np.sum(x, 1) ** 2),
    "reduce_mean": (
        lambda x: tf.reduce_mean(x, axis=[0], keepdims=True, name="mean") ** 3,
        lambda x: np.mean(x, 0, keepdims=True) ** 3,
    ),
    "reduce_max": (lambda x: tf.reduce_max(x, -1) ** 2, lambda x: np.max(x, -1) ** 2),
    "reduce_min": (lambda x: tf.reduce_min(input_tensor=x) * 3, lambda x: np.min(x) * 3),
    "norm": (tf.norm, np.linalg.norm),
    "norm of rows": (
        lambda x: tf.norm(x, axis=1, keepdims=True),
        lambda x: np.linalg.norm(x, axis=1, keepdims=True),
    ),
    "norm of columns": (
        lambda x: tf.norm(x, ord="euclidean", axis=0, name="n"),
        lambda x: np.linalg.norm(x, axis=0),
    ),
    **{
        f"norm {p} of rows": (
            lambda x, p=p: tf.norm(x, ord=p, axis=-1),
            lambda x, p=p: np.linalg.norm(x, p, axis=-1),
        )
        for p in (1, 2, 3, 1.5, INF)
    },
    **{
        f"norm {p} of a matrix": (
            lambda x, p=p: tf.norm(x, ord=p, axis=(0, 1)),
            lambda x, p=p: np.linalg.norm(x, p, axis=(0, 1)),
        )
        for p in (1, 2, "fro", INF)
    },
    "euclidean of a matrix": (
        lambda x: tf.norm(x, axis=[-2, -1], keepdims=True),
        lambda x: np.linalg.norm(x, axis=(-2, -1), keepdims=True),
    ),
    "norm 3 of all": (lambda x: tf.norm(x, 3), lambda x: np.linalg.norm(x.ravel(), 3)),
    "clip_by_value": (
        lambda x: tf.clip_by_value(x, -0.5, clip_value_max=0.6, name="c") ** 2,
        lambda x: np.clip(x, -0.5, 0.6) ** 2,
    ),
    "clip_by_norm": (lambda x: tf.clip_by_norm(x, 1.5) ** 2, lambda x: (x * 1.5 / np.linalg.norm(x)) ** 2),
    "clip_by_norm of a small one": (lambda x: tf.clip_by_norm(x, 100.0) ** 2, lambda x: x**2),
    "clip_by_norm of rows": (
        lambda x: tf.clip_by_norm(x, clip_norm=1.5, axes=[1], name="c") ** 2,
        lambda x: (x * 1.5 / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1.5)) ** 2,
    ),
    "clip_by_global_norm": (
        lambda x: tf.clip_by_global_norm([x[:1], None, x[1:]], 1.5, name="c")[0][2] ** 2,
        lambda x: (x[1:] * 1.5 / np.linalg.norm(x)) ** 2,
    ),
    "the global norm": (
        lambda x: tf.clip_by_global_norm((x[:1], 2.0 * x[1:]), 1.5)[1],
        lambda x: np.sqrt(np.sum(x[:1] ** 2) + 4 * np.sum(x[1:] ** 2)),
    ),
    "clip_by_global_norm with a norm": (
        lambda x: tf.clip_by_global_norm([x], 1.5, use_norm=tf.constant(np.float64(3.0)))[0][0] ** 2,
        lambda x: (x / 2) ** 2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    function, reference = CASES[case]
    value = np.asarray(function(tf.constant(X)))
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, reference(X), rtol=1e-12)
    np.testing.assert_allclose(gradient(function, X), slope(reference, X), rtol=1e-6, atol=1e-8)
    for dtype in (np.float16, np.float32):  # the dtype is kept, by values and gradients
        x = X.astype(dtype)
        if "of a matrix" in case and dtype == np.float16:
            continue
        assert np.asarray(function(tf.constant(x))).dtype == dtype or "with a norm" in case
        assert gradient(function, x).dtype == dtype


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("norm 2 of a matrix", "reduce_min")])
def test_second_derivatives(case):
    found, wanted = second(CASES[case][0], X, RNG.normal(size=X.shape))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.torch
def test_gradients_as_those_of_torch():
    torch = pytest.importorskip("torch")
    pairs = {
        "norm": (tf.norm, torch.linalg.vector_norm),
        "p": (lambda x: tf.norm(x, 3, axis=1), lambda x: torch.linalg.vector_norm(x, 3, dim=1)),
        "spectral": (lambda x: tf.norm(x, 2, axis=(0, 1)), lambda x: torch.linalg.matrix_norm(x, 2)),
        "clamp": (lambda x: tf.clip_by_value(x, -0.5, 0.5) ** 2, lambda x: torch.clamp(x, -0.5, 0.5) ** 2),
        "amax": (lambda x: tf.reduce_max(x, axis=0) ** 2, lambda x: torch.amax(x, 0) ** 2),
    }
    ties = np.array([[0.5, -0.5, 0.5, 1.0], [0.5, 0.25, -2.0, 1.0]])
    for name, (ours, theirs) in pairs.items():
        for x in (X, ties, np.zeros((2, 4))) if name != "spectral" else (X,):
            leaf = torch.tensor(x, requires_grad=True)
            theirs(leaf).sum().backward()
            np.testing.assert_allclose(
                gradient(ours, x), leaf.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=name
            )


@pytest.mark.parametrize("p", ["euclidean", 1.5, 3])
def test_gradients_of_norms_are_zero_where_the_norm_is(p):
    zeros = np.zeros((2, 3))
    assert gradient(lambda x: tf.norm(x, p), zeros).tolist() == zeros.tolist()
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert np.isfinite(gradient(lambda x: tf.norm(x, p, axis=1), rows)).all()


def test_clips_of_zeros():
    zeros = np.zeros((2, 3))
    for function in (
        lambda x: tf.clip_by_norm(x, 1.0),
        lambda x: tf.clip_by_global_norm([x], 1.0)[0][0],
    ):
        assert np.asarray(function(tf.constant(zeros))).tolist() == zeros.tolist()
        assert gradient(function, zeros).tolist() == np.ones((2, 3)).tolist()
    assert tf.clip_by_norm(X, 0.0).numpy().tolist() == np.zeros((3, 4)).tolist()
    assert tf.clip_by_norm(zeros, 0.0).numpy().tolist() == zeros.tolist()
    assert tf.clip_by_global_norm([tf.constant(X)], 0.0)[0][0].numpy().tolist() == np.zeros((3, 4)).tolist()


def test_clips_of_rows_and_of_what_is_not_finite():
    rows = tf.IndexedSlices(np.float32([[3.0], [4.0]]), np.array([1, 1]), (5, 1))
    for clipped in (tf.clip_by_norm(rows, 1.0), tf.clip_by_global_norm([rows], 1.0)[0][0]):
        assert isinstance(clipped, tf.IndexedSlices)
        np.testing.assert_allclose(np.asarray(clipped.values), [[0.6], [0.8]], rtol=1e-6)
        assert clipped.dense_shape == (5, 1)
    assert np.asarray(tf.clip_by_value(rows, 0.0, 3.5).values).tolist() == [[3.0], [3.5]]
    (a, b), norm = tf.clip_by_global_norm([np.float32([1.0]), np.float32([INF])], 1.0)
    assert np.isnan(a.numpy()).all()
    assert np.isnan(b.numpy()).all()
    assert norm == INF
    clipped, norm = tf.clip_by_global_norm([None], 1.0)
    assert clipped == [None]
    assert float(norm) == 0.0


def test_the_clips_of_optimizers_give_the_same():
    grads = [RNG.normal(size=(4, 2)).astype("f4"), RNG.normal(size=3).astype("f4")]
    for limits, clip in (
        ({"global_clipnorm": 1.0}, lambda: tf.clip_by_global_norm(grads, 1.0)[0]),
        ({"clipnorm": 1.0}, lambda: [tf.clip_by_norm(g, 1.0) for g in grads]),
        ({"clipvalue": 0.5}, lambda: [tf.clip_by_value(g, -0.5, 0.5) for g in grads]),
    ):
        variables = [tf.Variable(np.zeros(g.shape, "f4")) for g in grads]
        tf.optimizers.SGD(-1.0, **limits).apply_gradients(list(zip(grads, variables)))
        for v, clipped in zip(variables, clip()):
            np.testing.assert_allclose(v.numpy(), clipped.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tf.norm(X, ord=0), ValueError, "ord"),
        (lambda: tf.norm(X, ord=-1, axis=0), ValueError, "ord"),
        (lambda: tf.norm(X, ord="nuc"), ValueError, "nuc"),
        (lambda: tf.norm(X, ord=3, axis=(0, 1)), ValueError, "matrices"),
        (lambda: tf.norm(X, axis=(0, 0)), ValueError, "axis"),
        (lambda: tf.norm(X, axis=(0, 1, 2)), ValueError, "axis"),
        (lambda: tf.clip_by_global_norm(tf.constant(X), 1.0), TypeError, "t_list"),
        (lambda: tf.clip_by_norm(X, float("nan")), ValueError, "clip_norm"),
        (lambda: tf.clip_by_global_norm([X], INF), ValueError, "clip_norm"),
        (lambda: tf.function(3), TypeError, "function"),
        (lambda: tf.no_such_name, AttributeError, "no_such_name"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_axes_as_tensors_and_arrays():
    x = tf.constant(X)
    for axis in (1, [1], (1,), np.array([1]), tf.constant([1]), tf.constant(1), np.int64(1)):
        assert tf.reduce_sum(x, axis).shape == (3,)
    assert tf.reduce_sum(x, axis=[]).shape == X.shape
    assert float(tf.reduce_mean([1.0, 2.0])) == 1.5
    assert tf.reduce_max([[1, 5], [7, 2]], axis=0).numpy().tolist() == [7, 5]


def test_stop_gradient():
    v = tf.Variable([2.0, 3.0])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(v * tf.stop_gradient(v * v, name="stopped"))
    assert tape.gradient(y, v).numpy().tolist() == [4.0, 9.0]
    assert [float(x) for x in tf.stop_gradient(input=[1.0, v[0]])] == [1.0, 2.0]
    assert gradient(lambda x: tf.reduce_sum(tf.stop_gradient(x)), np.ones(2)) is None


def test_custom_gradient():
    @tf.custom_gradient
    def log1pexp(x):
        """The example of TensorFlow's documentation."""
        e = tf.exp(x)

        def grad(dy):
            return dy * (1 - 1 / (1 + e))

        return np.log(1 + e), grad

    for x in (np.array(100.0), np.array([-1.0, 2.0])):
        assert np.isfinite(gradient(log1pexp, x)).all()
        np.testing.assert_allclose(gradient(log1pexp, x), 1 / (1 + np.exp(-x)), rtol=1e-12)


def test_function_returns_the_function_and_says_so_once(caplog):
    graphs._tell.cache_clear()

    def double(x):
        return 2 * x

    with caplog.at_level(logging.INFO, "distopt"):
        assert tf.function(double) is double
        assert tf.function(double, autograph=False) is double
        assert tf.function(input_signature=[None])(double) is double

        class Model:
            @tf.function
            def step(self, x):
                return x + 1

        assert Model().step(1) == 2
    assert len(caplog.records) == 1
    assert "tf.function" in caplog.text


def test_all_names_are_there_and_come_by_star():
    assert all(hasattr(tf, name) for name in tf.__all__)
    names = {}
    exec("from distopt import *", names)
    assert names["reduce_mean"] is tf.math.reduce_mean
    assert set(tf.__all__) <= set(dir(tf))
