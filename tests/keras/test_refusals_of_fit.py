"""What fit, evaluate and predict refuse before anything is trained; missing labels."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.keras import layers as L

RNG = np.random.default_rng(0)
X = RNG.normal(size=(43, 6))
Y = RNG.integers(0, 4, 43)


def small_model() -> keras.Sequential:
    return keras.Sequential([L.Dense(5, "tanh", input_shape=(6,)), L.Dense(4, "softmax")])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"x": np.where(X[7, 2] == X, np.nan, X)}, "x has NaN, first in example 7"),
    "lengths": ({"y": Y[:-1]}, "x has 43, y has 42"),
    "classes": ({"y": Y + 1}, "from 0 to 3, .* 4 outputs; got labels from 1 to 4"),
    "parts of classes": ({"y": Y / 4}, "class numbers, which are whole"),
    "one-hot": ({"y": np.eye(4)[Y]}, r"got labels of shape \[batch, 4\]. One-hot labels go with cat"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "no example"),
    "width": ({"x": X[:, :5]}, r"layer 'dense\w*' \(Dense\) takes .*length 6 on axis -1"),
    "split": ({"validation_split": 0.999}, "leaves none"),
    "weights": ({"class_weight": {0: 1.0}}, r"no weight for the classes \[1, 2, 3\]"),
    "array of weights": ({"class_weight": np.ones(4)}, r"dict of class number .*dict\(enumerate"),
    "list of weights": ({"class_weight": [1.0, 1.0, 1.0, 1.0]}, r"class_weight must be a dict of class"),
    "word of weights": ({"class_weight": "balanced"}, r"class_weight must be a dict.*compute_class_weight"),
    "class that is a text": ({"class_weight": dict.fromkeys("0123", 1.0)}, "class_weight .*the class '0'"),
    "half a class": ({"class_weight": {0.5: 1.0}}, r"class_weight .*the class 0\.5"),
    "nan as weight": ({"class_weight": {0: np.nan}}, r"class_weight\[0\] must be a finite number"),
    "text as weight": ({"class_weight": {0: "1"}}, r"class_weight\[0\]"),
    "weights of no labels": ({"class_weight": {0: 1.0}, "y": None}, "class_weight needs labels"),
    "weights of a batch without labels": (
        {"class_weight": {0: 1.0}, "x": [(X,)], "y": None},
        "class_weight needs labels",
    ),
    "weights of time steps": (
        {"class_weight": {0: 1.0, 1: 2.0}, "y": np.arange(43 * 6).reshape(43, 6) % 4},
        r"class_weight takes class numbers .*shape \[batch, 6\] whose rows do not sum to 1",
    ),
    "weights of one-hot time steps": (
        {"class_weight": {0: 1.0, 1: 2.0}, "y": np.eye(4)[np.tile(Y[:, None], (1, 5))]},
        r"class_weight takes one class for each example; got labels of shape \[batch, 5, 4\]",
    ),
    "weights of several outputs": (
        {"class_weight": {0: 1.0}, "y": [Y, Y]},
        "class_weight works for models of one output",
    ),
    "weights of half labels": ({"class_weight": {0: 1.0}, "y": Y / 2}, "class_weight .*not whole"),
    "sample weights of other examples": (
        {"class_weight": dict.fromkeys(range(4), 1.0), "sample_weight": np.ones(42)},
        "sample_weight has 42 examples, y has 43",
    ),
    "sample weights of no step": (
        {"sample_weight": np.ones((43, 43)), "batch_size": 43},
        r"sample_weight of shape \(43, 43\) does not fit values of shape \(43,\)",
    ),
    "sample weights of no output": (
        {"sample_weight": [np.ones(43), np.ones(43)]},
        "1 outputs; sample_weight holds 2",
    ),
    "verbose": ({"verbose": 3}, "verbose must be"),
    "text": ({"x": np.array([["a"] * 6] * 43)}, "must hold numbers"),
    "no data": ({"x": None}, "x is None"),
    "batches and labels": ({"x": iter([(X, Y)])}, "labels and weights come in its batches"),
    "iterator": ({"x": iter([(X, Y)]), "y": None, "epochs": 2}, "read only once"),
    "nan in a batch": ({"x": [(X * np.nan, Y)], "y": None}, "the first batch's x has NaN"),
    "no batch": ({"x": [].__iter__(), "y": None}, "empty"),
    "no batch size": ({"batch_size": 0}, r"fit\(\): batch_size must be at least 1; got 0"),
    "part of a batch": ({"batch_size": 3.5}, "batch_size must be a whole number; got 3.5"),
    "negative epochs": ({"epochs": -1}, "epochs must be at least 0; got -1"),
    "half an epoch": ({"epochs": 1.5}, "epochs must be a whole number; got 1.5"),
    "too many steps": ({"steps_per_epoch": 3}, "steps must be from 1 to 2, the batches of 32 in 43 examples"),
    "validation width": ({"validation_data": (X[:, :5], Y)}, "takes .*length 6 on axis -1"),
    "validation labels": ({"validation_data": (X, Y + 1)}, "got labels from 1 to 4"),
    "validation nan": ({"validation_data": (X * np.nan, Y)}, r"fit\(validation_data=...\): x has NaN"),
    "validation iterator": ({"validation_data": iter([(X, Y)]), "epochs": 2}, "give validation_steps"),
    "validation frequency": ({"validation_data": (X, Y), "validation_freq": 0}, "validation_freq must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_training(name: str) -> None:
    changes, text = BAD[name]
    model = small_model()
    before = model.get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises((ValueError, TypeError), match=text):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **changes})
    for one, two in zip(before, model.get_weights(), strict=True):
        assert (one == two).all()


@pytest.mark.parametrize(
    ("loss", "y", "text"),
    [
        ("categorical_crossentropy", Y, r"output's shape \[batch, 4\]; got \[batch, 1\]. Class numbers go"),
        ("mse", np.ones((43, 3)), r"labels of shape \[batch, 3\] do not fit .* \[batch, 4\]"),
        ("mse", [np.ones((43, 4)), np.ones((43, 4))], "1 outputs; y holds 2"),
    ],
)
def test_labels_that_do_not_fit(loss: str, y: Any, text: str) -> None:
    model = small_model()
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=text):
        model.fit(X, y, verbose=0)


def test_an_iterator_is_enough_for_one_epoch() -> None:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    held_back = iter([(X[:9], Y[:9]), (X[9:], Y[9:])])
    history = model.fit(
        iter([(X, Y)]), epochs=4, initial_epoch=3, validation_data=held_back, validation_freq=4, verbose=0
    ).history
    assert history["val_loss"] == [pytest.approx(model.evaluate(X, Y, verbose=0))]


def test_an_iterator_that_ended_is_no_loss_of_zero() -> None:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="no batch to evaluate: the iterator has ended"):
        model.fit(X, Y, epochs=2, validation_data=iter([(X, Y)]), validation_steps=1, verbose=0)


def test_bad_input_of_several_replicas() -> None:
    def small_batch() -> None:
        model = small_model()
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(X, Y, batch_size=2, verbose=0)

    with pytest.raises(ValueError, match=r"batch_size=2 .* 3 replicas share: it must be at least 3"):
        VirtualStrategy(3).run(small_batch)

    def lengths() -> None:
        rank = int(get_replica_context().replica_id_in_sync_group)
        model = small_model()
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(X[rank:], Y[rank:], verbose=0)

    with pytest.raises(ValueError, match="replica 0: 43, replica 1: 42"):
        VirtualStrategy(2).run(lengths)


def test_calls_in_the_wrong_place() -> None:
    model = small_model()
    with pytest.raises(RuntimeError, match="is not compiled"):
        model.fit(X, Y)
    model.compile("sgd", "mse")
    with VirtualStrategy(2).scope(), pytest.raises(RuntimeError, match="cross-replica context"):
        model.fit(X, np.ones((43, 4)), verbose=0)
    model.compile("sgd")
    with pytest.raises(RuntimeError, match="has no loss"):
        model.fit(X, Y, verbose=0)
    for arguments in ({"optimizer": "sgdd"}, {"loss": "msee"}, {"metrics": ["acuracy"]}):
        with pytest.raises(ValueError, match=r"(?i)unknown|interpret"):
            model.compile(**{"optimizer": "sgd", "loss": "mse", **arguments})


COLUMN = np.arange(8.0).reshape(8, 1) / 16


class Added(keras.Model):
    """Adds its loss itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(1, kernel_initializer="ones")

    def call(self, x: Any) -> Any:
        self.add_loss(np.mean(x**2))
        return self.first(x)


CALLS = {
    "fit": lambda model: model.fit(COLUMN, verbose=0),
    "batches": lambda model: model.fit([(COLUMN,)], verbose=0),
    "validation": lambda model: model.fit(COLUMN, COLUMN, validation_data=COLUMN, verbose=0),
    "evaluate": lambda model: model.evaluate(COLUMN, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(COLUMN),
    "test_on_batch": lambda model: model.test_on_batch(COLUMN),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"loss": "mse"}, "loss needs"),
        ({"metrics": ["mae"]}, "metrics need"),
        ({"weighted_metrics": {"output_1": "mae"}}, "metrics need"),
    ],
)
def test_they_are_told_of_before_training(call: str, given: dict[str, Any], what: str) -> None:
    model = Added()
    model.compile("sgd", **given)
    model.build((None, 1))
    before = model.get_weights()
    with pytest.raises(ValueError, match=rf"was given no labels \(y\), which its {what}"):
        CALLS[call](model)
    assert (model.get_weights()[0] == before[0]).all()


class StepWithoutLabels(Added):
    """Has a step that compares with nothing."""

    def train_step(self, data: Any) -> dict[str, Any]:
        return {"mean": np.mean(data[0])}


def test_own_steps_need_none() -> None:
    model = StepWithoutLabels()
    model.compile("sgd", "mse", metrics=["mae"])
    assert model.fit(COLUMN, verbose=0).history == {"mean": [COLUMN.mean()]}
    with pytest.raises(ValueError, match="was given no labels"):
        model.evaluate(COLUMN, verbose=0)
