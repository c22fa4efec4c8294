"""Models: own ones and own steps, outputs, frozen layers, summary."""

from typing import Any

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.core.tensor import as_array
from distopt.distribute import VirtualStrategy
from distopt.keras import layers as L

RNG = np.random.default_rng(2)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = (X @ [[1.0], [-2.0], [0.5]] + 0.3).astype(np.float32)


class Residual(keras.Model):
    """A model of one's own, with a layer of one's own among its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [L.Dense(3, activation="tanh") for _ in range(2)]
        self.drop = L.Dropout(0.1, seed=0)
        self.last = L.Dense(1)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = inputs
        for layer in self.hidden:
            x = x + layer(x)
        return self.last(self.drop(x, training=training))


def test_own_model_learns() -> None:
    np.random.seed(0)
    model = Residual()
    model.compile(keras.optimizers.Adam(0.02), "mse", ["mae"])
    history = model.fit(X, Y, epochs=40, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    assert len(model.trainable_weights) == 6
    assert model.predict(X).shape == (40, 1)
    fresh = Residual()
    fresh.build((None, 3))
    assert fresh.count_params() == model.count_params()


class TwoHeads(keras.Model):
    """Two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        init = keras.initializers.GlorotUniform(seed=1)
        self.number = L.Dense(1, kernel_initializer=init)
        self.kind = L.Dense(2, activation="softmax", kernel_initializer=init)

    def call(self, inputs: Any) -> Any:
        return {"number": self.number(inputs), "kind": self.kind(inputs)}


def test_layers_in_a_model_are_in_its_mode() -> None:
    class Plain(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.drop = L.Dropout(0.5, seed=0)

        def call(self, inputs: Any) -> Any:
            return self.drop(inputs)

    model = Plain()
    assert (as_array(model(X, training=True)) == 0).any()
    assert (as_array(model(X)) == X).all()
    assert (as_array(keras.Sequential([Plain()])(X, training=True)) == 0).any()


def test_several_outputs_with_their_losses_and_metrics() -> None:
    labels = {"number": Y, "kind": (Y > 0).astype(int)}

    def program() -> Any:
        model = TwoHeads()
        model.compile(
            "sgd",
            {"number": "mse", "kind": "sparse_categorical_crossentropy"},
            metrics={"number": ["mae"], "kind": ["accuracy"]},
            loss_weights={"number": 0.5, "kind": 2.0},
        )
        history = model.fit(X, labels, epochs=2, batch_size=7, verbose=0).history
        return {name: values[-1] for name, values in history.items()}, model.predict(X)["kind"].shape

    last, shape = program()
    assert shape == (40, 2)
    assert sorted(last) == ["kind_accuracy", "kind_loss", "loss", "number_loss", "number_mae"]
    assert last["loss"] == pytest.approx(0.5 * last["number_loss"] + 2 * last["kind_loss"], rel=1e-6)
    shared = VirtualStrategy(3).run(lambda: program()[0])
    for name, value in shared.items():
        values = getattr(value, "values", (value,))
        assert values == pytest.approx([last[name]] * len(values), rel=1e-5)


def test_outputs_without_metrics_or_loss_weights_of_their_own() -> None:
    labels = {"number": Y, "kind": (Y > 0).astype(int)}
    losses = {"number": "mse", "kind": "sparse_categorical_crossentropy"}
    model = TwoHeads()
    model.compile("sgd", losses, metrics={"number": "mae"}, loss_weights={"kind": 0.5})
    last = {name: values[-1] for name, values in model.fit(X, labels, verbose=0).history.items()}
    assert sorted(last) == ["kind_loss", "loss", "number_loss", "number_mae"]
    assert last["loss"] == pytest.approx(last["number_loss"] + 0.5 * last["kind_loss"], rel=1e-6)
    with pytest.raises(TypeError, match="each of loss_weights must be a number; got 'much'"):
        model.compile("sgd", losses, loss_weights={"kind": "much"})
    for wrong in ({"metrics": {"nummer": "mae"}}, {"loss_weights": {"x": 2.0}}, {"loss": {"number": "mse"}}):
        model.compile(**{"optimizer": "sgd", "loss": losses, **wrong})
        with pytest.raises(ValueError, match=r"has the keys .* outputs are \['kind', 'number'\]"):
            model.fit(X, labels, verbose=0)


def test_several_inputs() -> None:
    class Sum(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = L.Dense(1), L.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.left(inputs["a"]) + self.right(inputs["b"])

    model = Sum()
    model.compile("sgd", "mse")
    model.fit({"a": X, "b": X[:, :2]}, Y, epochs=1, verbose=0)
    assert [w.shape for w in model.weights] == [(3, 1), (1,), (2, 1), (1,)]
    assert model.predict({"a": X, "b": X[:, :2]}).shape == (40, 1)


def test_a_frozen_layer_stays_as_it_is() -> None:
    model = keras.Sequential([L.Dense(4, input_shape=(3,)), L.Dense(1)])
    model.layers[0].trainable = False
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert len(model.trainable_weights) == 2
    frozen, trained = model.layers
    assert (np.asarray(frozen.kernel) == before[0]).all()
    assert (np.asarray(trained.kernel) != before[2]).any()


class OwnStep(keras.Sequential):
    """The step of the custom-training guide."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compiled_loss(y, y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.compiled_metrics.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


def test_an_own_step_is_the_shipped_one_if_it_does_the_same() -> None:
    def program(cls: Any) -> Any:
        model = cls([L.Dense(1, kernel_initializer="ones", input_shape=(3,))])
        model.compile("sgd", "mse", ["mae"])
        return model.fit(X, Y, batch_size=9, epochs=2, verbose=0).history["mae"], model.get_weights()

    mae, weights = program(keras.Sequential)
    own_mae, own_weights = program(OwnStep)
    assert own_mae == pytest.approx(mae)
    for one, two in zip(weights, own_weights, strict=True):
        assert (one == two).all()
    shared = VirtualStrategy(2).run(lambda: program(OwnStep)[0])
    assert [getattr(v, "values", (v,))[0] for v in shared] == pytest.approx(mae, rel=1e-6)


def test_users_functions_as_loss_and_metric() -> None:
    def scalar_loss(y_true: Any, y_pred: Any) -> Any:
        return np.mean(np.square(y_true - y_pred))

    def program(loss: Any) -> Any:
        model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(3,), dtype="float64")])
        model.compile("sgd", loss, [lambda y_true, y_pred: np.abs(y_true - y_pred)])
        history = model.fit(X, Y, batch_size=9, epochs=2, verbose=0).history
        return model.get_weights()[0].ravel().tolist(), history["loss"]

    expected, losses = program("mse")
    assert program(scalar_loss)[0] == pytest.approx(expected)
    weights, shared = VirtualStrategy(4).run(lambda: program(scalar_loss))
    assert [getattr(v, "values", (v,))[0] for v in weights] == pytest.approx(expected, rel=1e-12)
    assert [getattr(v, "values", (v,))[0] for v in shared] == pytest.approx(losses, rel=1e-12)


def test_sum_reduction_is_the_sum_over_the_global_batch() -> None:
    def program() -> Any:
        model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(3,))])
        model.compile(keras.optimizers.SGD(1e-3), keras.losses.MeanSquaredError(reduction="sum"))
        model.train_on_batch(X, Y)
        return model.get_weights()[0].tolist()

    error = X.sum(1, keepdims=True) - Y
    expected = 1 - 1e-3 * 2 * X.T @ error
    assert np.ravel(program()).tolist() == pytest.approx(expected.ravel().tolist(), rel=1e-5)


def test_probabilities_are_trained_by_the_logits_behind_them() -> None:
    """Where probabilities saturate, the gradient by them would vanish."""
    for activation, loss, y in (
        ("softmax", "sparse_categorical_crossentropy", np.zeros(2, int)),
        ("sigmoid", "binary_crossentropy", np.zeros((2, 2))),
    ):
        separate = keras.Sequential([L.Dense(2, input_shape=(1,)), L.Activation(activation)])
        fused = keras.Sequential([L.Dense(2, activation=activation, input_shape=(1,))])
        for model in (separate, fused):
            model.set_weights([np.array([[0.0, 60.0]]), np.zeros(2)])
            model.compile(keras.optimizers.SGD(1.0), loss)
            model.fit(np.ones((2, 1)), y, verbose=0)
            assert model.history.history["loss"][0] == pytest.approx(
                60.0 if activation == "softmax" else (60 + np.log(2)) / 2
            )
            assert model.get_weights()[0][0, 1] < 60


def test_regularizers_and_added_losses_count_once_however_many_replicas() -> None:
    class Penalized(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.only = L.Dense(1, kernel_initializer="ones", kernel_regularizer=keras.regularizers.L2(0.5))

        def call(self, inputs: Any) -> Any:
            self.add_loss(0.25 * np.sum(self.only.kernel) if self.only.built else 0.0)
            return self.only(inputs)

    def program() -> Any:
        model = Penalized()
        model.build((None, 3))
        model.compile("sgd", "mse")
        value = model.evaluate(X, Y, verbose=0)
        model.train_on_batch(X, Y)
        return value, model.get_weights()[0].ravel().tolist()

    value, weights = program()
    plain = float(np.mean((X.sum(1, keepdims=True) - Y) ** 2))
    assert value == pytest.approx(plain + 1.5 + 0.75, rel=1e-5)
    shared, shared_weights = VirtualStrategy(3).run(program)
    assert getattr(shared, "values", (shared,))[0] == pytest.approx(value, rel=1e-6)
    assert [getattr(v, "values", (v,))[0] for v in shared_weights] == pytest.approx(weights, rel=1e-5)


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential(
        [L.Dense(4, input_shape=(3,), name="in"), L.BatchNormalization(name="norm")], name="m"
    )
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'Model "m"'
    assert lines[4].split() == ["in", "(Dense)", "(batch,", "4)", "16"]
    assert lines[-1] == "32 weights: 24 trained, 8 not"

    def program() -> None:
        model.summary()

    VirtualStrategy(3).run(program)
    assert capsys.readouterr().out.count('Model "m"') == 1


def test_a_convolutional_net_learns() -> None:
    np.random.seed(3)
    images = RNG.normal(0, 0.3, size=(64, 8, 8, 1))
    kinds = np.arange(64) % 2
    images[kinds == 1, 2:6, 3:5] += 1.0
    model = keras.Sequential(
        [
            L.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)),
            L.BatchNormalization(synchronized=True),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", ["accuracy"])
    assert model.fit(images, kinds, epochs=8, batch_size=16, verbose=0).history["accuracy"][-1] > 0.95


def test_embedding_trains_sparsely_and_alike_on_replicas() -> None:
    ids, target = RNG.integers(0, 9, size=(20, 4)), RNG.normal(size=(20, 1))

    def program() -> Any:
        init = keras.initializers.RandomUniform(seed=1)
        model = keras.Sequential(
            [
                L.Embedding(10, 3, init, input_length=4, dtype="float64"),
                L.Flatten(),
                L.Dense(1, kernel_initializer=init, dtype="float64"),
            ]
        )
        model.compile(keras.optimizers.Adagrad(0.1), "mse")
        model.fit(ids, target, batch_size=6, epochs=3, verbose=0)
        return [w.ravel().tolist() for w in model.get_weights()]

    alone = [v for w in program() for v in w]
    shared = [getattr(v, "values", (v,))[0] for w in VirtualStrategy(4).run(program) for v in w]
    assert shared == pytest.approx(alone, rel=1e-10, abs=1e-13)


def test_the_documents_programs_run() -> None:
    """The code of the optimizer pages of TF 2.0, TF 2.4 and Keras."""
    from distopt import keras
    from distopt.keras import layers

    model = keras.Sequential()
    model.add(layers.Dense(64, kernel_initializer="uniform", input_shape=(10,)))
    model.add(layers.Activation("softmax"))
    opt = keras.optimizers.Adam(learning_rate=0.01)
    model.compile(loss="categorical_crossentropy", optimizer=opt)
    model.compile(loss="categorical_crossentropy", optimizer="adam")
    lr_schedule = keras.optimizers.schedules.ExponentialDecay(
        initial_learning_rate=1e-2, decay_steps=10000, decay_rate=0.9
    )
    optimizer = keras.optimizers.SGD(learning_rate=lr_schedule)
    x, y = RNG.normal(size=(4, 10)).astype(np.float32), np.eye(64, dtype=np.float32)[:4]
    loss_fn = tf.keras.losses.CategoricalCrossentropy(reduction="sum")
    before = model.get_weights()
    with tf.GradientTape() as tape:
        logits = model(x)
        loss_value = loss_fn(y, logits)
    gradients = tape.gradient(loss_value, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    assert (model.get_weights()[0] != before[0]).any()

    opt = tf.keras.optimizers.SGD(learning_rate=0.1)
    model = tf.keras.Sequential()
    model.add(tf.keras.layers.Dense(3, activation="relu"))
    model.add(tf.keras.layers.Dense(2, activation="sigmoid"))
    output = RNG.normal(size=(4, 2)).astype(np.float32)
    losses = []

    def loss() -> Any:
        value = tf.keras.losses.mse(model(x), output)
        losses.append(float(np.mean(as_array(value))))
        return value

    for _ in range(10):
        opt.minimize(loss, lambda: model.trainable_weights)
    assert losses[-1] < losses[0]
