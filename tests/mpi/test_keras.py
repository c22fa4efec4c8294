"""fit over MPI: the weights of one replica, data that end at different times, files for all."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.keras import callbacks, layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(45, 6))
Y = RNG.integers(0, 4, 45)


def model_of(dtype: str = "float64") -> keras.Sequential:
    init = keras.initializers.GlorotUniform(seed=1)
    model = keras.Sequential(
        [
            # Without a bias: its gradient before a batch normalization is nothing but rounding.
            layers.Dense(8, use_bias=False, kernel_initializer=init, input_shape=(6,), dtype=dtype),
            layers.BatchNormalization(synchronized=True, dtype=dtype),
            layers.Activation("relu", dtype=dtype),
            layers.Dense(4, activation="softmax", kernel_initializer=init, dtype=dtype),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model


def image_model() -> keras.Sequential:
    """Not built before it meets data."""
    init = keras.initializers.GlorotUniform(seed=1)
    model = keras.Sequential(
        [
            layers.Reshape((2, 3, 1), dtype="float64"),
            layers.Conv2D(3, 2, kernel_initializer=init, dtype="float64"),
            layers.BatchNormalization(synchronized=True, dtype="float64"),
            layers.GlobalAveragePooling2D(dtype="float64"),
            layers.Dense(4, activation="softmax", kernel_initializer=init, dtype="float64"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def trained() -> Any:
    """45 examples in batches of 11: the last batch has one."""
    model = model_of()
    history = model.fit(X, Y, batch_size=11, epochs=3, validation_split=0.2, verbose=0)
    return model.get_weights(), history.history, model.evaluate(X, Y, verbose=0), model.predict(X)


def test_fit_is_that_of_one_replica(replicas: Any) -> None:
    alone: list[Any] = []
    VirtualStrategy(1).run(lambda: alone.append(trained()))
    weights, history, evaluated, predicted = alone[0]
    for other in replicas.run(trained):
        for one, many in zip(weights, other[0], strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-9, atol=1e-12)
        for name, values in history.items():
            np.testing.assert_allclose(other[1][name], values, rtol=1e-9)
        np.testing.assert_allclose(other[2], evaluated, rtol=1e-9)
        np.testing.assert_allclose(other[3], predicted, rtol=1e-8)


def test_data_that_end_at_different_times_do_not_hang(replicas: Any) -> None:
    def program() -> Any:
        rank = int(get_replica_context().replica_id_in_sync_group)
        model = model_of()
        batches = ((X[i : i + 3], Y[i : i + 3]) for i in range(rank + 1))
        model.fit(batches, verbose=0)
        return int(model.optimizer.iterations.numpy()), [w.tolist() for w in model.get_weights()]

    results = replicas.run(program)
    assert [steps for steps, _ in results] == [replicas.size] * replicas.size
    assert all(weights == results[0][1] for _, weights in results)


@pytest.mark.parametrize("again", [True, False], ids=["list", "iterator"])
def test_a_replica_without_any_batch_takes_part(replicas: Any, again: bool) -> None:
    """The last replica's part of the files is empty: training is that of the others' data."""

    def program() -> Any:
        rank, last = int(get_replica_context().replica_id_in_sync_group), replicas.size - 1
        own = [(X[rank::last], Y[rank::last])] if rank < last else []
        model = image_model()

        def batches() -> Any:
            return own if again else iter(own)

        loss = model.fit(batches(), epochs=2 if again else 1, verbose=0).history["loss"]
        predicted = model.predict([(x,) for x, _ in own] if again else (x for x, _ in own))
        return loss, model.evaluate(batches(), verbose=0), predicted, model.get_weights()

    def alone() -> Any:
        model = image_model()
        loss = model.fit(X, Y, batch_size=45, shuffle=False, epochs=2 if again else 1, verbose=0)
        return loss.history["loss"], model.evaluate(X, Y, batch_size=45, verbose=0), model.get_weights()

    if replicas.size == 1:
        with pytest.raises(ValueError, match="the iterable or generator is empty"):
            image_model().fit([], verbose=0)
        return
    expected: list[Any] = []
    VirtualStrategy(1).run(lambda: expected.append(alone()))
    losses, evaluated, weights = expected[0]
    for loss, value, predicted, found in replicas.run(program):
        np.testing.assert_allclose(loss, losses, rtol=1e-6)
        np.testing.assert_allclose(value, evaluated, rtol=1e-6)
        assert predicted.shape == (45, 4)
        for one, many in zip(weights, found, strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-9, atol=1e-12)


def test_callbacks_decide_alike_and_write_once(replicas: Any, tmp_path: Path) -> None:
    def program(folder: Path) -> Any:
        given = [
            callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.2, factor=0.5),
            callbacks.CSVLogger(folder / "log.csv"),
            callbacks.ModelCheckpoint(folder / "best-{epoch}.npz", save_best_only=True),
            callbacks.EarlyStopping(patience=2, min_delta=0.05, restore_best_weights=True),
            callbacks.ExponentialMovingAverage(0.5),
        ]
        model = model_of()
        model.fit(X, Y, 11, epochs=9, verbose=0, callbacks=given, validation_split=0.3)
        assert model.history is not None
        return model.history.history, model.get_weights(), (folder / "log.csv").read_text()

    alone: list[Any] = []
    own = tmp_path / "own"
    own.mkdir()
    VirtualStrategy(1).run(lambda: alone.append(program(own)))
    history, weights, _ = alone[0]
    # The folder of replica 0: under MPI each process has a tmp_path.
    shared = replicas.run(lambda: tmp_path)[0]
    for other, found, log in replicas.run(lambda: program(shared)):
        assert list(other) == list(history)
        assert 2 < len(other["loss"]) < 9
        assert len(set(other["lr"])) > 1
        for name, values in history.items():
            np.testing.assert_allclose(other[name], values, rtol=1e-9)
        for one, many in zip(weights, found, strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-9, atol=1e-12)
        assert len(log.splitlines()) == 1 + len(other["loss"])


DIFFERENT: dict[str, Callable[[int], dict[str, Any]]] = {
    r"numbers of examples differ \(replica 0: 45, replica 1: 44": lambda r: {"x": X[r:], "y": Y[r:]},
    r"examples of replica 1 differ from those of replica 0": lambda r: {"x": np.roll(X, r, 0)},
    r"every replica .* examples of replica 1 differ": lambda r: {"x": np.sign(np.roll(X, r, 0))},
    r"batch_size must be the same on all replicas; got replica 0: 11, replica 1: 12": lambda r: {
        "batch_size": 11 + r
    },
    r"seed must be the same .* replica 0: 0, replica 1: 1": lambda r: {"seed": r},
    r"shuffle must be the same": lambda r: {"shuffle": np.bool_(r == 0)},
    r"fit\(\): steps must be the same": lambda r: {"steps_per_epoch": 1 + r % 2},
    r"fit\(\): epochs must be the same .* replica 0: 2, replica 1: 3": lambda r: {"epochs": np.int64(2 + r)},
    r"validation_data must be the same .* replica 0: None, replica 1: given": lambda r: {
        "validation_data": (X, Y) if r else None
    },
    r"x must be the same .* replica 0: whole arrays, replica 1: an iterable of batches": lambda r: (
        {"x": [(X, Y)], "y": None} if r else {}
    ),
}


@pytest.mark.parametrize("text", DIFFERENT)
def test_what_differs_between_replicas_is_told_before_training(replicas: Any, text: str) -> None:
    def program() -> tuple[str, bool]:
        rank = int(get_replica_context().replica_id_in_sync_group)
        model = model_of()
        before = model.get_weights()
        arguments = {"x": X, "y": Y, "batch_size": 11, "verbose": 0, **DIFFERENT[text](rank)}
        try:
            model.fit(**arguments)
        except ValueError as error:
            return str(error), all(map(np.array_equal, before, model.get_weights()))
        return "", True

    if replicas.size > 1:
        for message, untouched in replicas.run(program):
            assert re.search(text, message)
            assert untouched


def test_arithmetic_that_differs_in_the_last_bits_is_no_other_data(replicas: Any) -> None:
    def program() -> int:
        rank = int(get_replica_context().replica_id_in_sync_group)
        return len(model_of().fit(X * (1 + rank * 1e-6), Y, verbose=0).epoch)

    assert replicas.run(program) == [1] * replicas.size


def test_a_stop_on_one_replica_stops_all(replicas: Any) -> None:
    def program() -> int:
        rank = int(get_replica_context().replica_id_in_sync_group)

        def end(batch: int, logs: Any) -> None:
            model.stop_training = batch == 1 and rank == replicas.size - 1

        model = model_of()
        model.fit(X, Y, batch_size=11, verbose=0, callbacks=[callbacks.LambdaCallback(on_batch_end=end)])
        return int(model.optimizer.iterations.numpy())

    assert replicas.run(program) == [2] * replicas.size


def test_weights_in_a_file_are_there_for_all(replicas: Any, tmp_path: Path) -> None:
    def program() -> float:
        path = replicas.run(lambda: str(tmp_path))[0] if replicas.kind == "mpi" else str(tmp_path)
        model, other = model_of(), model_of()
        model.fit(X, Y, verbose=0)
        model.save_weights(f"{path}/w.safetensors")
        other.load_weights(f"{path}/w.safetensors")
        pairs = zip(model.get_weights(), other.get_weights(), strict=True)
        return float(max(np.abs(a - b).max() for a, b in pairs))

    assert replicas.run(program) == [0.0] * replicas.size


def weighted_gan() -> Any:
    """A GAN whose discriminator is compiled before it is frozen, then a model of two outputs with weights."""

    def dense(units: int, features: int, activation: str | None = None) -> Any:
        init = keras.initializers.GlorotUniform(seed=units)
        return layers.Dense(
            units, activation, input_shape=(features,), dtype="float64", kernel_initializer=init
        )

    discriminator = keras.Sequential([dense(4, 6), dense(1, 4, "sigmoid")])
    discriminator.compile("sgd", "binary_crossentropy")
    discriminator.trainable = False
    both = keras.Sequential([dense(6, 3), discriminator])
    both.compile("sgd", "binary_crossentropy")
    states = [both.get_weights()]
    for model, width in ((discriminator, 6), (both, 3)):
        model.train_on_batch(X[:11, :width], np.ones(11), sample_weight=np.linspace(0, 2, 11))
        states.append(both.get_weights())
    return states


class TwoHeads(keras.Model):
    """Two outputs, and a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        init = keras.initializers.GlorotUniform(seed=1)
        self.heads = {name: layers.Dense(1, dtype="float64", kernel_initializer=init) for name in "ab"}

    def call(self, x: Any) -> Any:
        outputs = {name: head(x) for name, head in self.heads.items()}
        self.add_loss(np.mean(outputs["a"] ** 2))
        return outputs


def weighted_heads(loss: Any) -> Any:
    model = TwoHeads()
    model.compile("sgd", loss, weighted_metrics={"a": ["mae"]} if loss else None)
    labels = {"a": X[:, 0], "b": X[:, 1]}
    weights = {"a": np.linspace(0, 1, 45)}
    history = model.fit(X, labels, 12, 2, 0, sample_weight=weights).history
    return [np.array(values) for values in history.values()] + model.get_weights()


def test_gans_and_weighted_outputs_are_those_of_one_replica(replicas: Any) -> None:
    def program() -> Any:
        return weighted_gan(), weighted_heads("mse"), weighted_heads(None)

    alone: list[Any] = []
    VirtualStrategy(1).run(lambda: alone.append(program()))
    start, first, second = alone[0][0]
    moved = [
        [bool((a != b).any()) for a, b in zip(*pair, strict=True)]
        for pair in ((start, first), (first, second))
    ]
    assert moved == [[False] * 2 + [True] * 4, [True] * 2 + [False] * 4]
    for states, *heads in replicas.run(program):
        for one, many in zip([*alone[0][0], *alone[0][1:]], [*states, *heads], strict=True):
            for a, b in zip(one, many, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
