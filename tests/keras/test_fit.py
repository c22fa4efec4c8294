"""fit, evaluate, predict: the recordings of Keras, any number of replicas, kinds of input, accumulation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distopt import IndexedSlices, Variable, keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.keras import layers as L
from distopt.keras.training.accumulation import GradientAccumulator

GOLDEN = Path(__file__).parents[1] / "golden"
FITS = json.loads((GOLDEN / "fit.json").read_text())["fit"]
BUFFERS = dict(np.load(GOLDEN / "fit.npz"))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(43, 6))
Y = RNG.integers(0, 4, 43)


def recorded(reference: Any) -> np.ndarray:
    key, offset, shape = reference
    return BUFFERS[key][offset : offset + int(np.prod(shape))].reshape(shape).copy()


def on_replicas(count: int, program: Callable[[], Any]) -> list[Any]:
    """What each replica's program returned."""
    results: dict[int, Any] = {}

    def noted() -> None:
        results[int(get_replica_context().replica_id_in_sync_group)] = program()

    VirtualStrategy(count).run(noted)
    return [results[r] for r in range(count)]


def small_model(seed: int = 1, dtype: str = "float64") -> keras.Sequential:
    """A model whose first weights do not depend on the replica."""
    init = keras.initializers.GlorotUniform(seed=seed)
    return keras.Sequential(
        [
            L.Dense(5, activation="tanh", kernel_initializer=init, input_shape=(6,), dtype=dtype),
            L.Dense(4, activation="softmax", kernel_initializer=init, kernel_regularizer="l2", dtype=dtype),
        ]
    )


@pytest.mark.parametrize("case", FITS, ids=[c["optimizer"] for c in FITS])
def test_fit_is_that_of_keras(case: Any, replicas: Any) -> None:
    x, y = recorded(case["x"]), recorded(case["y"])

    def program() -> Any:
        model = keras.Sequential(
            [L.Dense(16, activation="relu", input_shape=(x.shape[1],)), L.Dense(4, activation="softmax")]
        )
        model.set_weights([recorded(w) for w in case["initial_weights"]])
        model.compile(optimizer=case["optimizer"], loss=case["loss"], metrics=["accuracy"])
        size = case["batch_size"]
        history = model.fit(x, y, epochs=case["epochs"], batch_size=size, shuffle=False, verbose=0)
        evaluated = model.evaluate(x, y, batch_size=size, verbose=0)
        assert model.metrics_names == case["metrics_names"]
        return (
            history.history,
            evaluated,
            model.predict(x, batch_size=size),
            model.get_weights(),
            model.optimizer.get_weights(),
        )

    for history, evaluated, predicted, weights, state in replicas.run(program):
        for name, values in case["history"].items():
            np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(evaluated, case["evaluate"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(predicted, recorded(case["predict"]), rtol=1e-3, atol=1e-5)
        for got, expected in zip(weights, case["final_weights"], strict=True):
            np.testing.assert_allclose(got, recorded(expected), rtol=1e-3, atol=2e-5)
        for got, expected in zip(state, case["optimizer_weights"], strict=True):
            np.testing.assert_allclose(
                np.asarray(got, float), recorded(expected).astype(float), rtol=1e-3, atol=2e-5
            )


def trained(**options: Any) -> Any:
    model = small_model()
    steps = options.pop("steps_per_update", 1)
    model.compile(
        keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", ["accuracy"], steps_per_update=steps
    )
    data = options.pop("data", (X, Y))
    history = model.fit(*data, epochs=3, verbose=0, **options)
    return model.get_weights(), history.history, model.evaluate(X, Y, verbose=0), model.predict(X)


OPTIONS: dict[str, dict[str, Any]] = {
    "uneven batches": {"batch_size": 8},
    "one example over": {"batch_size": 7},
    "class weights": {"batch_size": 8, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5, 3: 0.0}},
    "sample weights": {"batch_size": 8, "sample_weight": np.linspace(0, 2, 43)},
    "validation": {"batch_size": 8, "validation_split": 0.3},
    "few steps": {"batch_size": 8, "steps_per_epoch": 2},
    "accumulation": {"batch_size": 8, "steps_per_update": 4},
}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", OPTIONS)
def test_replicas_give_the_weights_of_one(name: str, count: int) -> None:
    weights, history, evaluated, predicted = trained(**OPTIONS[name])
    for other in on_replicas(count, lambda: trained(**OPTIONS[name])):
        for one, many in zip(weights, other[0], strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-12, atol=1e-13)
        for key, values in history.items():
            np.testing.assert_allclose(other[1][key], values, rtol=1e-12)
        np.testing.assert_allclose(other[2], evaluated, rtol=1e-12)
        np.testing.assert_allclose(other[3], predicted, rtol=1e-10)


def test_memmaps_give_the_weights_of_arrays(tmp_path: Path) -> None:
    x = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    y = np.memmap(tmp_path / "y", Y.dtype, "w+", shape=Y.shape)
    x[:], y[:] = X, Y
    weights, history, evaluated, _ = trained(batch_size=8, validation_split=0.3)
    for other in on_replicas(3, lambda: trained(batch_size=8, validation_split=0.3, data=(x, y))):
        for one, many in zip(weights, other[0], strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-12, atol=1e-13)
        assert other[1]["val_accuracy"] == pytest.approx(history["val_accuracy"])
        np.testing.assert_allclose(other[2], evaluated, rtol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        *("mse", "mae", "mape", "msle", "hinge", "squared_hinge", "categorical_hinge", "huber", "log_cosh"),
        *("kld", "poisson", "cosine_similarity", "binary_crossentropy", "categorical_crossentropy"),
    ],
)
def test_every_loss_is_the_metric_of_its_name_on_any_number_of_replicas(loss: str) -> None:
    labels = np.abs(X[:, :3]) % 1

    def program() -> Any:
        init = keras.initializers.GlorotUniform(seed=1)
        layer = L.Dense(3, "sigmoid", kernel_initializer=init, dtype="float64")
        model = keras.Sequential([layer])
        model.compile(keras.optimizers.SGD(0.1), loss, [loss])
        history = model.fit(X, labels, batch_size=8, epochs=2, verbose=0).history
        return history["loss"], history[model.metrics_names[1]], layer.get_weights()[0]

    want, metric, kernel = on_replicas(1, program)[0]
    sign = -1 if loss == "cosine_similarity" else 1  # as in Keras: the loss is minus the metric
    np.testing.assert_allclose(metric, np.multiply(want, sign), rtol=1e-6)
    precision = 1e-7 if loss == "huber" else 1e-12  # Huber computes in float32, as in Keras
    for losses, _, weights in on_replicas(3, program):
        np.testing.assert_allclose(losses, want, rtol=precision)
        np.testing.assert_allclose(weights, kernel, rtol=10 * precision, atol=1e-13)


def test_float32_replicas_agree_within_tolerance() -> None:
    def program() -> Any:
        model = small_model(dtype="float32")
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(X, Y, batch_size=8, epochs=4, verbose=0)
        return model.get_weights()

    (alone,) = on_replicas(1, program)
    for weights in on_replicas(4, program):
        for one, many in zip(alone, weights, strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-6)


def test_accumulated_batches_are_one_large_batch() -> None:
    large = trained(batch_size=32, shuffle=False)[0]
    small = trained(batch_size=8, steps_per_update=4, shuffle=False)[0]
    for one, other in zip(large, small, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12)


def test_first_weights_are_those_of_replica_0() -> None:
    def program() -> Any:
        rank = get_replica_context().replica_id_in_sync_group
        model = small_model(seed=rank)
        init = keras.initializers.GlorotUniform(seed=rank)
        late = keras.Sequential([L.Dense(2, kernel_initializer=init)])
        return model.predict(X), small_model(seed=0).predict(X), late.predict(X)

    results = on_replicas(3, program)
    for got, expected, late in results:
        np.testing.assert_allclose(got, expected, rtol=1e-12)
        assert (late == results[0][2]).all()


def test_generators_may_end_at_different_times() -> None:
    """Replica r has r + 1 batches; the result is that of one replica with all examples of each step."""

    def batches(rank: int) -> list[Any]:
        return [
            (X[(rank * 3 + i) * 2 :][: 2 + rank], Y[(rank * 3 + i) * 2 :][: 2 + rank])
            for i in range(rank + 1)
        ]

    joined = []
    for step in range(3):
        parts = [batches(r)[step] for r in range(3) if step <= r]
        joined.append(tuple(np.concatenate(column) for column in zip(*parts, strict=True)))
    weights, history, _, _ = trained(data=(joined,))

    def program() -> Any:
        rank = int(get_replica_context().replica_id_in_sync_group)
        return trained(data=(batches(rank),))

    for other in on_replicas(3, program):
        for one, many in zip(weights, other[0], strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(other[1]["loss"], history["loss"], rtol=1e-12)


def test_dataset_and_generator_input() -> None:
    arrays = trained(batch_size=8, shuffle=False)[0]
    pipeline = keras.data.Dataset.from_tensor_slices((X, Y)).batch(8).prefetch()
    endless = iter(keras.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat())
    for other in (trained(data=(pipeline,))[0], trained(data=(endless,), steps_per_epoch=6)[0]):
        for one, two in zip(arrays, other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-12)


def test_weights_in_batches_are_those_of_arrays() -> None:
    weight = np.linspace(0, 2, 43)
    arrays = trained(batch_size=8, shuffle=False, sample_weight=weight)[0]
    batches = [(X[i : i + 8], Y[i : i + 8], weight[i : i + 8].tolist()) for i in range(0, 43, 8)]
    pipeline = keras.data.Dataset.from_generator(lambda: batches)
    for one, two in zip(arrays, trained(data=(pipeline,))[0], strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-12)


def test_shuffling_depends_on_seed_and_epoch_only() -> None:
    first = trained(batch_size=8, seed=1)[1]["loss"]
    assert trained(batch_size=8, seed=1)[1]["loss"] == first
    assert trained(batch_size=8, seed=2)[1]["loss"] != first


def test_going_on_at_an_epoch_is_the_same_as_never_stopping() -> None:
    whole, parts = small_model(), small_model()
    for model in (whole, parts):
        model.compile("sgd", "sparse_categorical_crossentropy")
    whole.fit(X, Y, epochs=4, verbose=0)
    parts.fit(X, Y, epochs=2, verbose=0)
    again = parts.fit(X, Y, initial_epoch=2, epochs=4, verbose=0)
    assert again.epoch == [2, 3]
    for one, two in zip(whole.get_weights(), parts.get_weights(), strict=True):
        assert (one == two).all()


@pytest.mark.parametrize("weights", ["none", "some"])
def test_train_and_test_on_batch(weights: str) -> None:
    sample_weight = None if weights == "none" else np.linspace(0, 1, len(X))

    def program() -> Any:
        model = small_model()
        model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
        results = [model.train_on_batch(X, Y, sample_weight=sample_weight) for _ in range(2)]
        return results, model.test_on_batch(X, Y), model.train_on_batch(X, Y, return_dict=True)["loss"]

    (alone,) = on_replicas(1, program)
    assert alone[0][0][0] > alone[0][1][0]
    for other in on_replicas(3, program):
        np.testing.assert_allclose(other[0], alone[0], rtol=1e-12)
        np.testing.assert_allclose(other[1], alone[1], rtol=1e-12)
        assert other[2] == pytest.approx(alone[2], rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_predict_is_whole_and_in_order(count: int) -> None:
    model = small_model()
    expected = np.concatenate([np.asarray(model(X[i : i + 1])) for i in range(len(X))])

    def program() -> Any:
        mine = small_model()
        return mine.predict(X, batch_size=4), mine.predict(X[:1]), mine.predict(X, batch_size=5, steps=2)

    for whole, single, limited in on_replicas(count, program):
        np.testing.assert_allclose(whole, expected, rtol=1e-12)
        np.testing.assert_allclose(single, expected[:1], rtol=1e-12)
        np.testing.assert_allclose(limited, expected[:10], rtol=1e-12)


def test_single_numbers_go_in_as_columns() -> None:
    """The example of the optimizers' documentation."""
    optimizer = keras.optimizers.RMSprop()
    model = keras.models.Sequential([L.Dense(10)])
    model.compile(optimizer, loss="mse")
    model.fit(np.arange(100).reshape(5, 20), np.zeros(5), verbose=0)
    assert len(optimizer.get_weights()) == 3
    model = keras.Sequential([L.Dense(1)])
    model.compile("sgd", "mse")
    assert model.fit(list(range(4)), [0.0, 1.0, 2.0, 3.0], verbose=0).history["loss"][0] >= 0


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
