"""Callbacks that watch a number: which way is better, what they tell, and epochs that end without it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.keras import callbacks as C
from distopt.keras import layers as L

X = np.random.default_rng(4).normal(size=(20, 3))
Y = X @ [[1.0], [-2.0], [0.5]]


def model_of(rate: float = 0.05) -> keras.Sequential:
    model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(3,))])
    model.compile(keras.optimizers.SGD(rate), "mse", ["mae"])
    return model


def fitted(*callbacks: Any, epochs: int = 6, **options: Any) -> keras.Sequential:
    model = model_of()
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks, **options)
    return model


class Losses(C.Callback):
    """Puts numbers in the place of the validation loss; none where there is a None."""

    def __init__(self, *values: float | None) -> None:
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs.pop("val_loss", None)
        if self.values[epoch] is not None:
            logs["val_loss"] = self.values[epoch]


LARGE = [
    *("acc", "val_acc", "accuracy", "val_sparse_categorical_accuracy", "kind_accuracy", "Accuracy", "AUC"),
    *(
        "auc_1",
        "auc2",
        "val_auc",
        "precision",
        "precision_at_recall",
        "recall_3",
        "top_k_categorical_accuracy",
    ),
    *("val_top_k", "cosine_similarity", "valAccuracy", "roc-auc", "acc@5", "val_fmeasure"),
]
SMALL = [
    *(
        "loss",
        "val_loss",
        "auction_loss",
        "val_accuracy_loss",
        "auc_loss_1",
        "accumulated_error",
        "recallerror",
    ),
    *(
        "vaccines",
        "inaccuracy",
        "mae",
        "val_mean_squared_error",
        "raucous",
        "precisions_missed",
        "top_kept",
        "",
    ),
    *("cosine_similarity_loss", "acceleration"),
]


def test_which_way_is_better_goes_by_whole_words() -> None:
    directions = {name: C.EarlyStopping(name).monitor_op for name in LARGE + SMALL}
    assert directions == dict.fromkeys(LARGE, np.greater) | dict.fromkeys(SMALL, np.less)
    for kind in (C.ReduceLROnPlateau, lambda name, mode="auto": C.ModelCheckpoint("w.npz", name, mode=mode)):
        assert kind("auction_loss").best == np.inf
        assert kind("val_auc").best == -np.inf
        assert kind("auction_loss", mode="max").best == -np.inf


def test_what_early_stopping_tells(replicas: Any) -> None:
    def program() -> Any:
        stop = C.EarlyStopping(patience=2, restore_best_weights=True)
        assert (stop.monitor, stop.wait, stop.stopped_epoch, stop.best_epoch) == ("val_loss", 0, 0, 0)
        assert (stop.best, stop.best_weights) == (np.inf, None)
        model = fitted(Losses(5.0, 3.0, 2.5, 3.5, 3.0, 1.0), stop)
        assert stop.best_weights is not None
        assert (stop.best_weights[0] == model.get_weights()[0]).all()
        return stop.best, stop.best_epoch, stop.wait, stop.stopped_epoch

    for told in replicas.run(program):
        assert told == (2.5, 2, 2, 4)
    unbeaten = C.EarlyStopping("loss", baseline=-1.0, patience=9)
    fitted(unbeaten, epochs=2)
    assert (unbeaten.best, unbeaten.baseline, unbeaten.wait) == (-1.0, -1.0, 2)


def test_subclasses_compare_by_keras_names() -> None:
    class Mine(C.EarlyStopping):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            value = self.get_monitor_value(logs)
            if self.monitor_op(value - self.min_delta, self.best):
                self.best, self.wait = value, 0
            else:
                self.wait += 1

    for sign, mode in ((1, "min"), (-1, "max")):
        mine = Mine(mode=mode, min_delta=0.3)
        values = [sign * value for value in (3.0, 2.8, 2.6, 2.5)]
        fitted(Losses(*values), mine, epochs=4)
        assert (mine.best, mine.wait) == (values[2], 1)


def test_what_the_others_tell(tmp_path: Path) -> None:
    reduce = C.ReduceLROnPlateau(patience=1, cooldown=3)
    assert (reduce.monitor, reduce.wait, reduce.best, reduce.in_cooldown()) == ("val_loss", 0, np.inf, False)
    best = C.ModelCheckpoint(tmp_path / "w.npz", save_best_only=True)
    fitted(Losses(3.0, 2.0, 4.0, 4.0), reduce, best, epochs=4)
    assert (reduce.best, reduce.wait, reduce.cooldown_counter, reduce.in_cooldown()) == (2.0, 0, 2, True)
    assert (best.monitor, best.best) == ("val_loss", 2.0)


@pytest.mark.parametrize("freq", [2, [2, 4, 6], (6, 2, 4), {2, 4, 6}, range(2, 7, 2), np.array([2, 4, 6])])
def test_epochs_without_validation_are_passed_over(freq: Any, tmp_path: Path, replicas: Any) -> None:
    def program() -> Any:
        stop = C.EarlyStopping(patience=2, min_delta=1e9)
        reduce = C.ReduceLROnPlateau(patience=1, min_delta=1e9)
        best = C.ModelCheckpoint(tmp_path / "best-{epoch}.npz", save_best_only=True)
        every = C.ModelCheckpoint(tmp_path / "every-{epoch}-{val_loss:.0f}.npz")
        model = fitted(
            stop, reduce, best, every, epochs=9, validation_data=(X, Y), validation_freq=freq, shuffle=False
        )
        assert model.history is not None
        rates = model.history.history["lr"]
        assert len(model.history.history["val_loss"]) == 3
        return model.history.epoch, stop.best_epoch, stop.wait, stop.stopped_epoch, rates

    for epochs, best_epoch, wait, stopped, rates in replicas.run(program):
        assert (epochs, best_epoch, wait, stopped) == ([0, 1, 2, 3, 4, 5], 1, 2, 5)
        # Lowered after the second validation; each entry is the rate that its epoch had.
        assert rates == pytest.approx([0.05, 0.05, 0.05, 0.05, 0.005, 0.005])
    names = sorted(path.name.split("-")[:2] for path in tmp_path.iterdir())
    assert [name for name in names if name[0] == "every"] == [["every", "2"], ["every", "4"], ["every", "6"]]
    assert ["best", "2.npz"] in names


def test_a_number_that_came_before_may_be_missing() -> None:
    stop = C.EarlyStopping(patience=2)
    model = fitted(Losses(5.0, None, 3.0, None, 3.5, None, 4.0, None, 1.0), stop, epochs=9)
    assert model.history is not None
    assert (model.history.epoch[-1], stop.best_epoch, stop.wait) == (6, 2, 2)


@pytest.mark.parametrize(
    ("monitor", "options", "epochs"),
    [
        ("val_loss", {}, 0),
        ("val_lss", {"validation_data": (X, Y), "validation_freq": 2}, 1),
        ("lss", {"validation_data": (X, Y), "validation_freq": 2}, 0),
        ("val_loss", {"validation_data": (X, Y), "validation_freq": 7}, 0),
        ("val_loss", {"validation_data": (X, Y), "validation_freq": []}, 0),
        ("val_loss", {"validation_data": (X, Y), "validation_freq": [1], "initial_epoch": 1}, 0),
    ],
)
def test_a_name_that_never_comes_is_an_error(monitor: str, options: Any, epochs: int, tmp_path: Path) -> None:
    seen: list[int] = []
    note = C.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    checkpoint = C.ModelCheckpoint(tmp_path / "w.npz", monitor, save_best_only=True)
    for callback in (C.EarlyStopping(monitor), C.ReduceLROnPlateau(monitor), checkpoint):
        seen.clear()
        with pytest.raises(ValueError, match=f"monitor='{monitor}' is not among the logs"):
            fitted(callback, note, **options)
        assert len(seen) == epochs
    with pytest.raises(ValueError, match=f"names '{monitor}', which the logs do not hold"):
        fitted(C.ModelCheckpoint(f"{tmp_path}/{{{monitor}}}.npz"), **options)


@pytest.mark.parametrize("freq", [0, [0, 1], [1.5], "2", 2.0, [True], None, iter([1])])
def test_frequencies_that_are_none(freq: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="validation_freq must be"):
        fitted(validation_data=(X, Y), validation_freq=freq)


@pytest.mark.timeout(20)
def test_very_many_epochs_are_not_counted_one_by_one() -> None:
    stop = C.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model = model_of()
    held_back = iter([(X, Y)] * 2)
    model.fit(X, Y, epochs=10**12, verbose=0, callbacks=stop, validation_data=held_back, validation_steps=1)
    assert model.history is not None
    assert model.history.epoch == [0]


def test_validation_is_in_the_files_and_curves_of_its_epochs(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    model = fitted(C.CSVLogger(path), epochs=5, validation_data=(X, Y), validation_freq=[2, 5])
    assert model.history is not None
    history = model.history.history
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for name in ("loss", "mae"):
        assert [float(row[name]) for row in rows] == history[name]
        validated = [row[f"val_{name}"] for row in rows]
        assert [validated[i] for i in (0, 2, 3)] == ["NA"] * 3
        assert [float(validated[i]) for i in (1, 4)] == history[f"val_{name}"]
    pytest.importorskip("matplotlib")
    curves = model.history.plot().axes[0].get_lines()
    assert [line.get_xdata().tolist() for line in curves] == [[1, 2, 3, 4, 5], [2, 5]]


def test_validation_data_may_be_a_list() -> None:
    weight = np.linspace(0, 1, 20)
    for data in ((X, Y), (X, Y, weight)):
        model = fitted(epochs=2, validation_data=list(data))
        assert model.history is not None
        expected = fitted(epochs=2, validation_data=data).history
        assert expected is not None
        assert model.history.history == expected.history
    batches = fitted(epochs=1, validation_data=[(X[:9], Y[:9]), (X[9:], Y[9:])]).history
    assert batches is not None
    assert batches.history["val_loss"] == pytest.approx(
        fitted(epochs=1, validation_data=(X, Y)).history.history["val_loss"]
    )
    numbers = fitted(epochs=1, validation_data=[X.tolist(), Y.tolist()]).history
    assert numbers is not None
    assert numbers.history["val_loss"] == pytest.approx(batches.history["val_loss"])


def test_a_rate_that_cannot_be_lower_is_not_lowered(capsys: pytest.CaptureFixture[str]) -> None:
    """The optimizer's rate is a float32, min_lr none: 0.001 is not above 0.001."""
    for rate, least, lowered in ((0.05, 0.001, ["0.005", "0.001"]), (0.001, 0.001, []), (0.001, 0.05, [])):
        model = model_of(rate)
        reduce = C.ReduceLROnPlateau(patience=1, min_lr=least, verbose=1, cooldown=0)
        model.fit(X, Y, epochs=8, verbose=0, callbacks=[Losses(*[1.0] * 8), reduce])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[-1] for line in lines] == lowered
        assert float(np.asarray(model.optimizer.learning_rate)) == np.float32(min(rate, max(least, 0.001)))
        assert reduce.wait == 7 - len(lowered)
