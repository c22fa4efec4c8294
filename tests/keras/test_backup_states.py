"""A backup whose states cannot be is refused before fit has changed anything."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.checkpoint.holders import Checked
from distopt.keras import callbacks as C
from distopt.keras import layers as L
from distopt.keras.data import Dataset
from distopt.keras.data.sources import IterableSource
from distopt.keras.training.fit_state import FitState


def fitted() -> tuple[Any, FitState]:
    """A model with all that has states, and the state of a fit of it."""
    seen: list[FitState] = []
    model = keras.Sequential([L.Dropout(0.5, seed=1, input_shape=(2,)), L.Dense(1)])
    model.compile("sgd", "mse")

    def note(*_: Any) -> None:
        seen.append(model.fit_state)

    average = C.ExponentialMovingAverage()
    told = [C.LambdaCallback(on_epoch_end=note), average]
    data = Dataset.from_tensor_slices((np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)))
    model.fit(data.shuffle(seed=1).batch(2), verbose=0, callbacks=told)
    return model, seen[0]


def changes(state: Any) -> Any:
    """The state with something wrong about one member, or all of it something else."""
    yield from (None, 5, "x", [], {})
    for name in state if isinstance(state, dict) else ():
        yield {key: value for key, value in state.items() if key != name}
        for wrong in (-1, "x", 1.5, {}):
            if type(wrong) is not type(state[name]) or wrong == -1:
                yield {**state, name: wrong}


def test_states_that_cannot_be() -> None:
    model, fit = fitted()
    (source,) = fit._sources
    assert isinstance(source, IterableSource)
    assert fit.loss is not None
    for holder in (fit.position, fit.loss, source._batches, model.layers[0], source, fit):
        assert isinstance(holder, Checked)
        right = holder.get_state()
        holder.check_state(right)
        for wrong in changes(right):
            if (holder is source or holder is fit) and isinstance(wrong, dict):
                continue  # what is in there has a turn of its own
            if isinstance(wrong, dict) and set(right) - set(wrong) == {"given"}:
                continue  # an older state has none
            with pytest.raises((TypeError, ValueError, KeyError, IndexError)):
                holder.check_state(wrong)
    for wrong in ({"taken": -1, "begun": None}, {"taken": 0, "begun": {"readings": -1}}, {"taken": "x"}):
        with pytest.raises((TypeError, ValueError, KeyError)):
            fit.check_state({**fit.get_state(), "data": [wrong]})
    for wrong in ({"stopped": 3}, {"returned": [1]}, {"returned": {"loss": "x"}}, {"data": []}):
        with pytest.raises((TypeError, ValueError)):
            fit.check_state({**fit.get_state(), **wrong})


def test_averages_of_other_shapes() -> None:
    _, fit = fitted()
    state = fit.callbacks.get_state()
    fit.callbacks.check_state(state)
    with pytest.raises(ValueError, match="averages"):
        fit.callbacks.check_state({**state, "ExponentialMovingAverage/0": [np.ones(3)]})


REMEMBER = {
    "EarlyStopping": lambda: C.EarlyStopping("loss", patience=9, restore_best_weights=True),
    "ReduceLROnPlateau": lambda: C.ReduceLROnPlateau("loss"),
    "ModelCheckpoint": lambda: C.ModelCheckpoint("never-{epoch}.npz", "loss", save_best_only=True),
    "LearningRateScheduler": lambda: C.LearningRateScheduler(lambda epoch, rate: rate),
    "LearningRateWarmup": lambda: C.LearningRateWarmup(),
    "TensorBoard": lambda: C.TensorBoard("logs"),
    "History": None,
}


@pytest.mark.parametrize("name", REMEMBER)
def test_callbacks_check_what_they_take_back(name: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential([L.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    make = REMEMBER[name]
    given = [make()] if make else []
    history = model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=given)
    assert model.fit_state is not None
    callback, states = given[0] if given else history, model.fit_state.callbacks
    right = states.get_state()
    states.check_state(right)
    own = right[f"{name}/0"]
    wrong = list(changes(own)) if isinstance(own, dict) else ["x", None, [], {}, np.ones(2)]
    if isinstance(own, dict):
        wrong += [{**own, "more": 1}]
        wrong = [
            state for state in wrong if not isinstance(state, dict) or state.get("best") not in (-1, 1.5)
        ]
    else:
        wrong += [-1] * (name == "TensorBoard")
    before = callback.get_state()
    for state in wrong:
        with pytest.raises((TypeError, ValueError)):
            states.check_state({**right, f"{name}/0": state})
    assert callback.get_state() == before


@pytest.mark.parametrize(
    "wrong", [[], [np.ones(2), np.ones(1)], [np.ones((2, 1))], [np.array([["a"], ["b"]]), np.ones(1)], "x"]
)
def test_best_weights_of_other_shapes(wrong: Any) -> None:
    stop = C.EarlyStopping("loss", restore_best_weights=True)
    model = keras.Sequential([L.Dense(1, input_shape=(2,))])
    stop.set_model(model)
    stop.check_state({**stop.get_state(), "best_weights": model.get_weights()})
    with pytest.raises(ValueError, match="best_weights do not have the shapes"):
        stop.check_state({**stop.get_state(), "best_weights": wrong})


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": [-1]},
        {"history": {"loss": 3}},
        {"history": {"mae": [1.0]}},
        {"epochs": {"loss": [0, 1]}},
        {"epochs": {"loss": ["x"]}},
    ],
)
def test_histories_that_cannot_be(change: Any) -> None:
    history = C.History()
    history.on_epoch_end(0, {"loss": 1.0})
    history.check_state(history.get_state())
    with pytest.raises((TypeError, ValueError)):
        history.check_state({**history.get_state(), **change})


@pytest.mark.timeout(20)
def test_a_position_far_behind_the_end_is_the_end() -> None:
    source = IterableSource([(np.ones((2, 2)), np.ones((2, 1)))] * 3, total=lambda number: number)
    source.set_state({"taken": 10**12, "begun": None})
    assert source._next() is None
