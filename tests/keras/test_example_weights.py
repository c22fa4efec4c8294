"""Weights of examples, of their time steps and of several outputs; losses that the model adds itself."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy
from distopt.keras import layers as L

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 4)).astype(np.float32)
Y = {"a": RNG.normal(size=10).astype(np.float32), "b": RNG.integers(0, 3, 10)}
W = {"a": RNG.uniform(size=10), "b": RNG.uniform(size=10)}


def init(seed: int) -> Any:
    return keras.initializers.GlorotUniform(seed=seed)


class Heads(keras.Model):
    """Two heads, as a dict or a list."""

    def __init__(self, named: bool = True) -> None:
        super().__init__()
        self.named = named
        self.a = L.Dense(1, kernel_initializer=init(1))
        self.b = L.Dense(3, "softmax", kernel_initializer=init(2))

    def call(self, x: Any) -> Any:
        return {"a": self.a(x), "b": self.b(x)} if self.named else [self.a(x), self.b(x)]


def heads(named: bool = True) -> Any:
    model = Heads(named)
    names = ("a", "b") if named else ("output_1", "output_2")
    model.compile(
        keras.optimizers.SGD(0.1),
        dict(zip(names, ("mse", "sparse_categorical_crossentropy"), strict=True)),
        weighted_metrics=dict(zip(names, (["mae"], ["accuracy"]), strict=True)),
    )
    return model


def expected(model: Any, weights: dict[str, Any]) -> dict[str, float]:
    """What evaluate() is by hand."""
    a, b = np.asarray(model.a(X))[:, 0], np.asarray(model.b(X))
    wa, wb = (np.ones(10) if weights.get(name) is None else weights[name] for name in "ab")
    losses = {
        "loss_a": np.mean(wa * (a - Y["a"]) ** 2),
        "loss_b": np.mean(-wb * np.log(b[np.arange(10), Y["b"]])),
    }
    return {
        "loss": losses["loss_a"] + losses["loss_b"],
        **losses,
        "mae": np.sum(wa * np.abs(a - Y["a"])) / wa.sum(),
        "accuracy": np.sum(wb * (b.argmax(-1) == Y["b"])) / wb.sum(),
    }


GIVEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "dict": (W, W),
    "list": ([W["a"], W["b"]], W),
    "tuple with None": ((None, W["b"]), {"b": W["b"]}),
    "part of a dict": ({"a": W["a"]}, {"a": W["a"]}),
    "dict with None": ({"a": W["a"], "b": None}, {"a": W["a"]}),
    "none": ({}, {}),
    "one for all": (W["a"], {"a": W["a"], "b": W["a"]}),
    "lists of numbers": ({"a": W["a"].tolist()}, {"a": W["a"]}),
}


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("case", GIVEN)
def test_every_output_has_its_weights(case: str, replicas: int) -> None:
    given, weights = GIVEN[case]

    def program() -> Any:
        model = heads()
        results = model.evaluate(X, Y, batch_size=4, verbose=0, sample_weight=given, return_dict=True)
        want = expected(model, weights)
        assert list(results.values()) == pytest.approx(list(want.values()), rel=1e-5)
        batch = model.test_on_batch(X, Y, sample_weight=given)
        assert batch == pytest.approx(list(want.values()), rel=1e-5)
        held = (X, Y, given)
        history = model.fit(X, Y, 10, 1, 0, sample_weight=given, validation_data=held, shuffle=False).history
        assert [history[name][0] for name in results] == pytest.approx(list(want.values()), rel=1e-5)
        want = expected(model, weights)
        assert [history[f"val_{name}"][0] for name in results] == pytest.approx(list(want.values()), rel=1e-5)
        trained.append(model.train_on_batch(X, Y, sample_weight=given))
        model.fit(iter([(X[:5], take(Y, slice(5)), take(given, slice(5)))]), verbose=0)
        model.fit([(X[:5], take(Y, slice(5)), take(W, slice(5)))], verbose=0)
        model.fit(X, Y, validation_split=0.3, sample_weight=given, verbose=0)

    trained: list[Any] = []
    VirtualStrategy(replicas).run(program)
    assert all(np.isfinite(trained[0]))


def take(data: Any, which: slice) -> Any:
    if isinstance(data, dict):
        return {name: take(part, which) for name, part in data.items()}
    if isinstance(data, (tuple, list)) and not np.isscalar(data[0]):
        return [take(part, which) for part in data]
    return None if data is None else data[which]


def test_outputs_without_names_are_numbered() -> None:
    model, named = heads(named=False), heads()
    labels = {"output_1": Y["a"], "output_2": Y["b"]}
    weights = {"output_2": W["b"]}
    found = model.evaluate(X, labels, verbose=0, sample_weight=weights)
    assert found == pytest.approx(named.evaluate(X, Y, verbose=0, sample_weight={"b": W["b"]}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"sample_weight": {"a": W["a"], "c": W["b"]}},
            r"sample_weight has the keys \['a', 'c'\]",
        ),
        ({"sample_weight": [W["a"]]}, "2 outputs; sample_weight holds 1 arrays"),
        ({"sample_weight": {"a": W["a"][:9]}}, "x has 10, .*sample_weight has 9"),
        (
            {"y": {"a": Y["a"], "c": Y["b"]}},
            r"y has the keys \['a', 'c'\]; .* are \['a', 'b'\]",
        ),
        ({"y": {"a": Y["a"]}}, r"y has the keys \['a'\]"),
        ({"y": Y["a"]}, "2 outputs; y holds 1 arrays"),
        ({"class_weight": {0: 1.0}}, "class_weight works only for models with one output"),
    ],
)
def test_what_fits_no_output_is_refused(changes: dict[str, Any], text: str) -> None:
    model = heads()
    model(X)
    before = model.get_weights()
    with pytest.raises(ValueError, match=text):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **changes})
    with pytest.raises(ValueError, match=text):
        model.train_on_batch(**{"x": X, "y": Y, **changes})
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


# -- time steps
STEPS = RNG.normal(size=(10, 5, 4)).astype(np.float32)
CLASSES = RNG.integers(0, 3, (10, 5))


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("labels", [CLASSES, CLASSES[..., None], np.eye(3, dtype=np.float32)[CLASSES]])
@pytest.mark.parametrize("shape", [(10,), (10, 1), (10, 5), (10, 5, 1)])
def test_time_steps_have_weights(labels: Any, shape: tuple[int, ...], replicas: int) -> None:
    weights = np.random.default_rng(1).uniform(size=shape)
    sparse = labels.shape[2:] != (3,)

    def program() -> None:
        model = keras.Sequential([L.Dense(3, "softmax", kernel_initializer=init(3))])
        loss = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
        model.compile("sgd", loss, weighted_metrics=["accuracy"])
        found = model.evaluate(STEPS, labels, batch_size=4, verbose=0, sample_weight=weights)
        p = model.predict(STEPS)
        one = weights.reshape(10, -1) * np.ones((10, 5))
        losses = -np.log(np.take_along_axis(p, CLASSES[..., None], -1)[..., 0])
        right = p.argmax(-1) == CLASSES
        assert found == pytest.approx([np.mean(one * losses), np.sum(one * right) / one.sum()], rel=1e-5)
        history = model.fit(STEPS, labels, 10, 1, 0, sample_weight=weights, shuffle=False).history
        assert history["loss"] == pytest.approx(found[:1], rel=1e-5)

    VirtualStrategy(replicas).run(program)


def test_weights_of_examples_count_for_all_their_values() -> None:
    """Two axes behind the batch, of the same length as it."""
    losses = np.arange(27.0).reshape(3, 3, 3)

    def itself(y_true: Any, y_pred: Any) -> Any:
        return y_pred

    loss = keras.losses.LossFunctionWrapper(itself, reduction="none")
    found = np.asarray(loss(losses, losses, sample_weight=[1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(found, losses * np.reshape([1.0, 0.0, 2.0], (3, 1, 1)))
    mean = keras.metrics.Mean()
    assert float(mean(losses, sample_weight=[1.0, 0.0, 0.0])) == pytest.approx(4.0)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights_are_multiplied_with_sample_weights(one_hot: bool) -> None:
    labels = np.eye(3, dtype=np.float32)[Y["b"]] if one_hot else Y["b"]
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    per_class = {0: 1.0, 1: 2.0, 2: 0.5}
    both = np.array([per_class[int(c)] for c in Y["b"]]) * W["b"]

    def trained(**options: Any) -> Any:
        model = keras.Sequential([L.Dense(3, "softmax", kernel_initializer=init(3))])
        model.compile("sgd", loss)
        history = model.fit(X, verbose=0, shuffle=False, **options).history["loss"]
        return [*history, model.train_on_batch(X, **options), *np.ravel(model.get_weights()[0])]

    want = trained(y=labels, sample_weight=both.astype(np.float32))
    for y in (labels, [labels], labels.tolist()):
        found = trained(y=y, sample_weight=W["b"], class_weight=per_class)
        np.testing.assert_allclose(found, want, rtol=1e-5)


# -- losses that the model adds itself
class Autoencoder(keras.Model):
    """Has no loss but the one that its call adds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = L.Dense(2, kernel_initializer=init(1), kernel_regularizer="l2")
        self.decoder = L.Dense(4, kernel_initializer=init(2))

    def call(self, x: Any) -> Any:
        code = self.encoder(x)
        output = self.decoder(code)
        self.add_loss([np.mean((output - x) ** 2), 0.1 * np.mean(code**2)])
        return output


def added(model: Any) -> float:
    kernel = np.asarray(model.encoder.kernel)
    code = X @ kernel + np.asarray(model.encoder.bias)
    output = code @ np.asarray(model.decoder.kernel) + np.asarray(model.decoder.bias)
    return float(np.mean((output - X) ** 2) + 0.1 * np.mean(code**2) + 0.01 * np.sum(kernel**2))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("labels", [None, X])
def test_a_model_without_a_loss_is_trained_on_what_it_adds(labels: Any, replicas: int) -> None:
    def program() -> None:
        model = Autoencoder()
        model.compile(keras.optimizers.SGD(0.1))
        first = model.evaluate(X, labels, verbose=0)
        assert first == pytest.approx(added(model), rel=1e-5)
        assert model.train_on_batch(X, labels) == pytest.approx(first, rel=1e-5)
        second = added(model)
        assert second < first
        assert model.test_on_batch(X, labels) == pytest.approx(second, rel=1e-5)
        history = model.fit(X, labels, batch_size=3, epochs=4, verbose=0, validation_data=(X,)).history
        assert list(history) == ["loss", "val_loss"]
        assert history["val_loss"][-1] == pytest.approx(added(model), rel=1e-5)
        assert history["val_loss"][-1] < second
        trained.append(np.hstack([np.ravel(w) for w in model.get_weights()]))

    trained: list[Any] = []
    VirtualStrategy(1).run(program)
    VirtualStrategy(replicas).run(program)
    for weights in trained[1:]:
        np.testing.assert_allclose(weights, trained[0], rtol=1e-4, atol=1e-6)


def test_a_backup_of_such_a_model_goes_on(tmp_path: Any) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    def fitted(*callbacks: Any) -> Any:
        model = Autoencoder()
        model.compile(keras.optimizers.Adam(0.1))
        history = model.fit(X, epochs=4, batch_size=4, verbose=0, callbacks=[*callbacks])
        return history.history["loss"][-1], [w.tolist() for w in model.get_weights()]

    backup = keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=1)
    with pytest.raises(KeyboardInterrupt):
        fitted(Stop(), backup)
    assert fitted(keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=1)) == fitted()


def test_a_model_with_no_loss_at_all_is_told_so() -> None:
    model = keras.Sequential([L.Dense(1, input_shape=(4,))])
    model.compile("sgd")
    for train in (model.fit, model.train_on_batch, model.evaluate):
        with pytest.raises(RuntimeError, match=r"has no loss: .* call add_loss\(\) in call"):
            train(X, Y["a"])


@pytest.mark.parametrize(
    ("loss", "error", "text"),
    [
        (np.ones(3), ValueError, r"takes a scalar; got shape \(3,\)"),
        (lambda: 1.0, TypeError, r"takes values: evaluate the function in call\(\)"),
    ],
)
def test_only_scalars_can_be_added(loss: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        L.Dense(1).add_loss(loss)
