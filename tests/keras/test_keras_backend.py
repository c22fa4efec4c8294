"""keras.backend: what programs for tf.keras take from it."""

import copy
from typing import Any

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.distribute import VirtualStrategy
from distopt.keras import backend as K
from distopt.keras import layers as L

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.9, (3, 4))


@pytest.fixture
def float64() -> Any:
    K.set_floatx("float64")
    yield
    K.set_floatx("float32")


# -- settings
def test_the_default_dtype_is_that_of_what_is_made_then(float64: None) -> None:
    assert K.floatx() == "float64"
    model = keras.Sequential([L.Dense(3, input_shape=(4,)), L.BatchNormalization(), L.Dense(2)])
    assert {w.dtype for w in model.weights} == {np.dtype("float64")}
    assert (
        model(X).dtype
        == keras.initializers.Ones()((2,)).dtype
        == keras.metrics.Mean()(1.0).dtype
        == np.float64
    )
    assert K.variable(1).dtype == K.ones((2,)).dtype == K.random_normal((2,)).dtype == np.float64
    assert K.cast_to_floatx([1, 2]).dtype == np.float64
    K.set_floatx("float32")
    assert L.Dense(3, input_shape=(4,)).dtype == np.float32
    assert model(X).dtype == np.float64


@pytest.mark.parametrize("wrong", ["float8", "int32", None, 32, ["float32"]])
def test_no_other_default_dtypes(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"Unknown floatx type: .*float16, float32, float64"):
        K.set_floatx(wrong)
    assert K.floatx() == "float32"


def test_settings_that_cannot_be_changed_say_so() -> None:
    assert (K.epsilon(), K.image_data_format()) == (1e-7, "channels_last")
    K.set_epsilon(1e-7)
    K.set_image_data_format("channels_last")
    with pytest.raises(ValueError, match=r"set_epsilon.* cannot be changed"):
        K.set_epsilon(1e-4)
    with pytest.raises(ValueError, match="channels_last"):
        K.set_image_data_format("channels_first")
    with pytest.raises(AttributeError, match=r"'gradients': .* use a GradientTape"):
        K.gradients
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        K.no_such_name


def test_names_begin_anew_after_clear_session() -> None:
    def names() -> list[str]:
        K.clear_session()
        found = [L.Dense(1).name, L.Dense(1).name, keras.Sequential().name]
        K.clear_session()
        return [*found, L.Dense(1).name, keras.Sequential().name]

    want = ["dense", "dense_1", "sequential", "dense", "sequential"]
    assert names() == want
    found: list[Any] = []
    VirtualStrategy(2).run(lambda: found.append(names()))
    assert found == [want, want]


# -- values
def test_values_are_read_and_set() -> None:
    v = tf.Variable([1.0, 2.0])
    K.set_value(v, [3, 4])
    value = K.get_value(v)
    value[0] = 9  # a copy
    assert K.get_value(v).tolist() == [3.0, 4.0]
    assert K.get_value(2.5) == 2.5
    assert K.eval(tf.constant(2.5)) == 2.5
    K.batch_set_value([(v, [5, 6]), (v, [7, 8])])
    assert [one.tolist() for one in K.batch_get_value([v, v])] == [[7.0, 8.0]] * 2
    with pytest.raises(ValueError, match="shape"):
        K.set_value(v, [1.0])
    with pytest.raises(TypeError, match=r"set_value\(\) sets variables; got 2"):
        K.set_value(2, [1.0])


def test_learning_rates_are_read_and_set() -> None:
    model = keras.Sequential([L.Dense(1, kernel_initializer="zeros", use_bias=False, input_shape=(1,))])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    optimizer = model.optimizer
    assert K.get_value(optimizer.lr) == 0.5
    K.set_value(optimizer.learning_rate, 0.25)
    assert K.get_value(optimizer.lr) == 0.25
    model.train_on_batch(np.ones((1, 1)), np.ones(1))
    assert K.get_value(model.layers[0].kernel).tolist() == [[0.5]]


def test_replicas_set_what_they_share() -> None:
    two = VirtualStrategy(2)
    with two.scope():
        model = keras.Sequential([L.Dense(1, input_shape=(1,))])
        model.compile(keras.optimizers.SGD(0.5), "mse")

    def program() -> None:
        K.set_value(model.layers[0].kernel, [[3.0]])
        K.set_value(model.optimizer.lr, 0.125)
        found.append((K.get_value(model.layers[0].kernel).item(), float(K.get_value(model.optimizer.lr))))

    found: list[Any] = []
    two.run(program)
    assert found == [(3.0, 0.125)] * 2


def test_tensors_are_made() -> None:
    assert K.variable([1, 2], name="v").name == "v:0"
    assert K.constant(2, shape=(2, 1)).numpy().tolist() == [[2.0], [2.0]]
    assert K.zeros((2,)).numpy().tolist() == [0, 0]
    assert K.ones_like(np.zeros((1, 2), "f2")).dtype == np.float16
    assert (K.shape(X), K.int_shape(X), K.ndim(X), K.count_params(X), K.dtype(X)) == (
        (3, 4),
        (3, 4),
        2,
        12,
        "float64",
    )


def test_random_tensors() -> None:
    np.random.seed(0)
    first = K.random_normal((1000,), 3.0, 2.0).numpy()
    assert abs(first.mean() - 3) < 0.3
    assert abs(first.std() - 2) < 0.3
    low = K.random_uniform(K.shape(X), -2, -1, "float64").numpy()
    assert low.shape == X.shape
    assert (low.min() >= -2, low.max() <= -1) == (True, True)

    def drawn() -> Any:
        return [K.random_normal((2,), seed=3).numpy().tolist() for _ in range(2)]

    K.clear_session()
    once = drawn()
    assert once[0] != once[1]
    K.clear_session()
    assert drawn() == once
    K.clear_session()
    found: list[Any] = []
    VirtualStrategy(2).run(lambda: found.append(drawn()))
    assert sorted(found) == sorted([once, *[other for other in found if other != once]])
    assert found[0] != found[1]


# -- functions: each with what it is in NumPy
FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "sum": (lambda x: K.sum(x, axis=-1), lambda x: x.sum(-1)),
    "mean": (lambda x: K.mean(x, axis=[0, 1], keepdims=True), lambda x: x.mean((0, 1), keepdims=True)),
    "max": (lambda x: K.max(x, 1), lambda x: x.max(1)),
    "min": (lambda x: K.min(x), lambda x: x.min()),
    "prod": (lambda x: K.prod(x, 0), lambda x: x.prod(0)),
    "var": (lambda x: K.var(x, 1), lambda x: x.var(1)),
    "std": (lambda x: K.std(x, 1), lambda x: x.std(1)),
    "abs": (lambda x: K.abs(x - 0.5), lambda x: abs(x - 0.5)),
    "exp": (K.exp, np.exp),
    "log": (K.log, np.log),
    "square": (K.square, np.square),
    "sqrt": (K.sqrt, np.sqrt),
    "pow": (lambda x: K.pow(x, 3), lambda x: x**3),
    "maximum": (lambda x: K.maximum(x, 0.5), lambda x: np.maximum(x, 0.5)),
    "minimum": (lambda x: K.minimum(0.5, x), lambda x: np.minimum(x, 0.5)),
    "clip": (lambda x: K.clip(x, 0.4, 0.6), lambda x: x.clip(0.4, 0.6)),
    "clip below": (lambda x: K.clip(x, 0.4, None), lambda x: x.clip(0.4)),
    "logsumexp": (lambda x: K.logsumexp(900 * x, 1), lambda x: np.logaddexp.reduce(900 * x, 1)),
    "l2_normalize": (lambda x: K.l2_normalize(x, 1), lambda x: x / np.sqrt((x**2).sum(1, keepdims=True))),
    "cast": (lambda x: K.cast(x, "float64"), lambda x: x),
    "dot": (lambda x: K.dot(x, x[:2].T if hasattr(x, "T") else np.transpose(x[:2])), lambda x: x @ x[:2].T),
    "switch": (lambda x: K.switch(K.greater(x[:, 0], 0.5), x, lambda: 2 * x),
               lambda x: np.where(x[:, :1] > 0.5, x, 2 * x)),
    "reshape": (lambda x: K.reshape(x, (2, -1)), lambda x: x.reshape(2, -1)),
    "flatten": (K.flatten, np.ravel),
    "batch_flatten": (lambda x: K.batch_flatten(K.expand_dims(x, 1)), lambda x: x),
    "squeeze": (lambda x: K.squeeze(K.expand_dims(x), -1), lambda x: x),
    "transpose": (K.transpose, np.transpose),
    "permute_dimensions": (lambda x: K.permute_dimensions(x, (1, 0)), np.transpose),
    "concatenate": (lambda x: K.concatenate([x, 2 * x]), lambda x: np.concatenate([x, 2 * x], -1)),
    "stack": (lambda x: K.stack([x, 2 * x], axis=1), lambda x: np.stack([x, 2 * x], 1)),
    "repeat_elements": (lambda x: K.repeat_elements(x, 2, 1), lambda x: np.repeat(x, 2, 1)),
    "sigmoid": (K.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "softmax": (K.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "tanh": (K.tanh, np.tanh),
    "binary_crossentropy": (lambda x: K.binary_crossentropy(np.round(X), x),
                            lambda x: -np.log(np.where(np.round(X), x, 1 - x))),
    "categorical_crossentropy": (lambda x: K.categorical_crossentropy(np.eye(4)[:3], x),
                                 lambda x: -np.log(x[range(3), range(3)] / x.sum(1))),
    "sparse_categorical_crossentropy": (lambda x: K.sparse_categorical_crossentropy(np.arange(3), x, True),
                                        lambda x: np.log(np.exp(x).sum(1)) - x[range(3), range(3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_gradients(name: str) -> None:
    ours, numpys = FUNCTIONS[name]
    want = np.asarray(numpys(X))
    np.testing.assert_allclose(np.asarray(ours(X)), want, rtol=1e-5)
    factors = np.random.default_rng(1).normal(size=want.shape)
    variable = tf.Variable(X)
    with tf.GradientTape() as tape:
        total = K.sum(ours(variable) * factors)
    gradient = np.asarray(tape.gradient(total, variable))
    numeric, step = np.empty_like(X), 1e-6
    for at in np.ndindex(*X.shape):
        more, less = copy.copy(X), copy.copy(X)
        more[at] += step
        less[at] -= step
        numeric[at] = np.sum((np.asarray(numpys(more)) - np.asarray(numpys(less))) * factors) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)


def test_comparisons_and_places() -> None:
    x, y = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    found = [f(x, y) for f in (K.equal, K.not_equal, K.less, K.less_equal, K.greater, K.greater_equal)]
    assert [[int(b) for b in one] for one in found] == [
        [0, 1, 0], [1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1],
    ]  # fmt: skip
    assert float(K.mean(K.equal(x, y))) == pytest.approx(1 / 3)
    assert (int(K.argmax(x)), int(K.argmin(x))) == (2, 0)
    assert (bool(K.any(K.equal(x, y))), bool(K.all(K.equal(x, y)))) == (True, False)
    assert K.one_hot([0, 2], 3).numpy().tolist() == [[1, 0, 0], [0, 0, 1]]
    assert K.round([0.5, 1.5, -1.2]).numpy().tolist() == [0.0, 2.0, -1.0]
    assert K.sign([-2.0, 0.0]).numpy().tolist() == [-1.0, 0.0]


def test_a_loss_and_a_metric_of_keras_backend() -> None:
    def loss(y_true: Any, y_pred: Any) -> Any:
        return K.mean(K.square(y_pred - y_true), axis=-1) + K.epsilon()

    def within(y_true: Any, y_pred: Any) -> Any:
        return K.mean(K.cast(K.less(K.abs(y_pred - y_true), 0.5), K.floatx()), axis=-1)

    model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(4,))])
    model.compile(keras.optimizers.SGD(0.01), loss, [within])
    y = X.sum(1) + np.array([0.0, 1.0, 0.0])
    assert model.evaluate(X, y, verbose=0) == pytest.approx([1 / 3, 2 / 3], rel=1e-4)
    assert model.fit(X, y, epochs=5, verbose=0).history["loss"][-1] < 1 / 3


# -- a layer's argument
def test_an_embedding_masks_nothing() -> None:
    with pytest.raises(ValueError, match=r"mask_zero=True\) is not supported"):
        L.Embedding(3, 2, mask_zero=True)
    config = L.Embedding(3, 2, mask_zero=False, name="e").get_config()
    assert config["mask_zero"] is False
    assert L.Embedding.from_config(config).name == "e"
