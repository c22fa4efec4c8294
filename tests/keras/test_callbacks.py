"""Callbacks: what they see, what they decide, what they write; on several replicas too."""

import csv
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import crc32c, scalars, scalars_of_tensorboard

from distopt import keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import MissingExtra
from distopt.keras import callbacks as C
from distopt.keras import layers as L

RNG = np.random.default_rng(4)
X = RNG.normal(size=(20, 3))
Y = X @ [[1.0], [-2.0], [0.5]]


def model_of(rate: float = 0.05) -> keras.Sequential:
    model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(3,), dtype="float64")])
    model.compile(keras.optimizers.SGD(rate), "mse", ["mae"])
    return model


def fitted(*callbacks: Any, epochs: int = 4, **options: Any) -> keras.Sequential:
    model = model_of()
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks, **options)
    return model


def rank() -> int:
    return int(get_replica_context().replica_id_in_sync_group)


def test_moments_come_in_order() -> None:
    seen: list[Any] = []
    names = ("train_begin", "epoch_begin", "batch_begin", "batch_end", "epoch_end", "train_end")
    shout = C.LambdaCallback(**{f"on_{name}": lambda *a, name=name: seen.append(name) for name in names})
    fitted(shout, epochs=2)
    epoch = ["epoch_begin", *["batch_begin", "batch_end"] * 3, "epoch_end"]
    assert seen == ["train_begin", *epoch, *epoch, "train_end"]
    with pytest.raises(TypeError, match="no 'on_epoch'"):
        C.LambdaCallback(on_epoch=print)


@pytest.mark.parametrize("count", [1, 3])
def test_batches_logs_are_those_of_all_replicas(count: int) -> None:
    seen: dict[int, list[dict[str, Any]]] = {r: [] for r in range(count)}

    def program() -> None:
        fitted(C.LambdaCallback(on_batch_end=lambda batch, logs: seen[rank()].append(dict(logs))), epochs=1)

    VirtualStrategy(count).run(program)
    expected = model_of()
    means = [expected.train_on_batch(X[i], Y[i], reset_metrics=k == 0) for k, i in enumerate(_batches())]
    for logs in seen.values():
        assert [entry["size"] for entry in logs] == [8, 8, 4]
        assert [entry["loss"] for entry in logs] == pytest.approx([m[0] for m in means], rel=1e-12)
        assert [entry["mae"] for entry in logs] == pytest.approx([m[1] for m in means], rel=1e-6)


def _batches() -> list[np.ndarray]:
    order = keras.data.example_order(20, 0, 0)
    return [order[i : i + 8] for i in range(0, 20, 8)]


def test_history_holds_every_epoch_and_draws_it(tmp_path: Path) -> None:
    model = model_of()
    history = model.fit(X, Y, epochs=4, verbose=0, validation_data=(X, Y), validation_freq=2, initial_epoch=1)
    assert history is model.history
    assert history.epoch == [1, 2, 3]
    assert {name: len(values) for name, values in history.history.items()} == {
        "loss": 3,
        "mae": 3,
        "val_loss": 2,
        "val_mae": 2,
    }
    assert [axes.get_title() for axes in history.plot(tmp_path / "curve.png").axes] == ["loss", "mae"]
    axes = history.plot().axes[0]
    assert len(axes.get_lines()) == 2
    assert all(epoch == int(epoch) for epoch in axes.get_xticks()), "there is no epoch 1.5"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no epoch"):
        C.History().plot(tmp_path / "none.png")


def test_a_line_an_epoch_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose, lines in ((0, 0), (1, 2), (2, 2), ("auto", 2)):
        model_of().fit(X, Y, epochs=2, verbose=verbose)
        out = capsys.readouterr().out
        assert len(out.splitlines()) == lines
        if lines:
            assert out.startswith("Epoch 1/2  loss ")
            assert "examples/s on 1 replica" in out

    def program() -> None:
        model_of().fit(X, Y, epochs=2, verbose=1)

    VirtualStrategy(3).run(program)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert "on 3 replicas" in out


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    model_of().fit(X, Y, batch_size=8, epochs=2, verbose=1)
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out
    assert "3/3" in out
    assert "mae" in out


def test_a_missing_package_for_the_bar_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("distopt.keras.callbacks.progress.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"rich.*pip install rich$"):
        model_of().fit(X, Y, verbose=1)
    model_of().fit(X, Y, verbose="auto")
    assert capsys.readouterr().out.startswith("Epoch 1/1")


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    first = fitted(C.CSVLogger(path), epochs=3)
    fitted(C.CSVLogger(path, append=True), epochs=2)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "0", "1"]
    assert [float(row["loss"]) for row in rows[:3]] == first.history.history["loss"]
    path.unlink()
    VirtualStrategy(2).run(lambda: fitted(C.CSVLogger(path), epochs=2) and None)
    assert len(path.read_text().splitlines()) == 3


class Losses(C.Callback):
    """Puts numbers in the place of the validation loss."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = self.values[epoch]


def test_early_stopping() -> None:
    values = [5.0, 3.0, 3.5, 2.9, 3.0, 3.1, 1.0]
    kept: list[Any] = []
    keep = C.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    stop = C.EarlyStopping(patience=2, restore_best_weights=True)
    model = model_of()
    model.fit(X, Y, epochs=7, verbose=0, callbacks=[Losses(values), keep, stop])
    assert model.history.epoch == [0, 1, 2, 3, 4, 5]
    assert stop.stopped_epoch == 5
    assert (model.get_weights()[0] == kept[3][0]).all()
    rough = C.EarlyStopping(patience=1, min_delta=0.2)
    assert fitted(Losses(values), rough, epochs=7).history.epoch == [0, 1, 2]
    assert fitted(C.EarlyStopping("mae", mode="max"), epochs=7).history.epoch == [0, 1]
    assert fitted(C.EarlyStopping("mae", baseline=1e-9, patience=1), epochs=7).history.epoch == [0]
    with pytest.raises(ValueError, match=r"'val_loss' is not among the logs\. Did you mean 'loss'"):
        fitted(C.EarlyStopping())
    with pytest.raises(ValueError, match="mode must be"):
        C.EarlyStopping(mode="less")


def test_one_replica_that_wants_to_stop_stops_all() -> None:
    def after_epoch() -> list[int]:
        def end(epoch: int, logs: Any) -> None:
            model.stop_training = rank() == 1 and epoch == 1

        model = model_of()
        model.fit(X, Y, epochs=5, verbose=0, callbacks=[C.LambdaCallback(on_epoch_end=end)])
        return model.history.epoch

    assert VirtualStrategy(3).run(after_epoch) == [0, 1]

    def after_batch() -> int:
        def end(batch: int, logs: Any) -> None:
            model.stop_training = rank() == 2 and batch == 1

        model = model_of()
        model.fit(X, Y, batch_size=5, epochs=5, verbose=0, callbacks=[C.LambdaCallback(on_batch_end=end)])
        return int(model.optimizer.iterations.numpy())

    assert VirtualStrategy(3).run(after_batch) == 2


def test_terminate_on_nan_on_all_replicas() -> None:
    x = X.copy()
    x[11] = 1e200  # in one replica's share

    def program() -> Any:
        model = model_of()
        with np.errstate(all="ignore"):
            model.fit(x, Y, batch_size=10, shuffle=False, epochs=5, verbose=0, callbacks=[C.TerminateOnNaN()])
        return int(model.optimizer.iterations.numpy()), len(model.history.epoch)

    assert program() == (2, 1)
    assert VirtualStrategy(3).run(program) == (2, 1)


def test_checkpoints(tmp_path: Path) -> None:
    values = [3.0, 2.0, 2.5, 1.5]
    every = C.ModelCheckpoint(tmp_path / "w-{epoch:02d}-{val_loss:.1f}.npz")
    best = C.ModelCheckpoint(str(tmp_path / "best.safetensors"), save_best_only=True)
    weights: list[Any] = []
    keep = C.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    model = model_of()
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[Losses(values), keep, every, best])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["best.safetensors", "w-01-3.0.npz", "w-02-2.0.npz", "w-03-2.5.npz", "w-04-1.5.npz"]
    for file, epoch in (("best.safetensors", 3), ("w-02-2.0.npz", 1)):
        other = model_of()
        other.load_weights(tmp_path / file)
        assert (other.get_weights()[0] == weights[epoch][0]).all()
    with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
        C.ModelCheckpoint("weights.h5")
    with pytest.raises(ValueError, match="names 'val_acc', which the logs do not hold"):
        fitted(C.ModelCheckpoint(str(tmp_path / "{val_acc}.npz")))


def test_checkpoints_are_there_for_all_replicas_at_once(tmp_path: Path) -> None:
    def program() -> float:
        path = tmp_path / "w.npz"
        model = fitted(C.ModelCheckpoint(str(path)))
        other = model_of()
        other.load_weights(path)
        return float(np.abs(other.get_weights()[0] - model.get_weights()[0]).max())

    assert VirtualStrategy(3).run(program) == 0.0


def test_reduce_on_plateau() -> None:
    values = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    rates: list[float] = []
    keep = C.LambdaCallback(on_epoch_end=lambda epoch, logs: rates.append(logs["lr"]))
    fitted(Losses(values), C.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=0.02), keep, epochs=len(values))
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.025, 0.025, 0.02, 0.02])
    cooled: list[float] = []
    keep = C.LambdaCallback(on_epoch_end=lambda epoch, logs: cooled.append(logs["lr"]))
    fitted(Losses([1.0] * 6), C.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=2), keep, epochs=6)
    assert cooled == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125])
    with pytest.raises(ValueError, match="less than 1; got 1"):
        C.ReduceLROnPlateau(factor=1)


def test_learning_rate_scheduler() -> None:
    model = fitted(C.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else 0.08), epochs=3)
    assert model.history.history["lr"] == pytest.approx([0.08, 0.04, 0.02])
    assert float(np.asarray(model.optimizer.learning_rate)) == pytest.approx(0.02)
    one = fitted(C.LearningRateScheduler(lambda epoch: 0.1 * (epoch + 1)), epochs=3)
    assert float(np.asarray(one.optimizer.learning_rate)) == pytest.approx(0.3)
    scheduled = model_of()
    scheduled.compile(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)), "mse")
    with pytest.raises(ValueError, match="LearningRateScheduler changes the learning rate"):
        scheduled.fit(X, Y, verbose=0, callbacks=[C.LearningRateScheduler(lambda epoch: 0.1)])
    with pytest.raises(
        TypeError, match="learning rate of epoch 0, as the schedule gives it, must be a number"
    ):
        fitted(C.LearningRateScheduler(lambda epoch: "fast"))  # type: ignore[arg-type,return-value]


def test_warmup_goes_up_to_the_number_of_replicas() -> None:
    def program() -> list[float]:
        rates: list[float] = []
        note = C.LambdaCallback(
            on_batch_end=lambda batch, logs: rates.append(float(np.asarray(model.optimizer.learning_rate)))
        )
        model = model_of(0.01)
        warmup = C.LearningRateWarmup(epochs=2)
        model.fit(X, Y, batch_size=10, epochs=3, verbose=0, callbacks=[warmup, note])
        return rates

    assert program() == pytest.approx([0.01] * 6)
    rates = [getattr(v, "values", (v,))[0] for v in VirtualStrategy(4).run(program)]
    # From the base rate to 4 times it in 4 steps, then constant.
    assert rates == pytest.approx([0.01 * f for f in (1.75, 2.5, 3.25, 4, 4, 4)])
    with pytest.raises(ValueError, match="pass steps_per_epoch"):
        model_of().fit(iter([(X, Y)]), verbose=0, callbacks=[C.LearningRateWarmup()])
    weights = {int(label): 1.0 for label in np.unique(Y.astype(int))}
    model_of().fit([(X, Y.astype(int))], class_weight=weights, verbose=0, callbacks=[C.LearningRateWarmup()])


def test_moving_average_of_the_weights() -> None:
    steps: list[np.ndarray] = []
    keep = C.LambdaCallback(on_batch_end=lambda batch, logs: steps.append(model.get_weights()[0]))
    model = model_of()
    average = C.ExponentialMovingAverage(decay=0.75)
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0, callbacks=[keep, average])
    expected = np.ones((3, 1))
    for weight in steps:
        expected = 0.75 * expected + 0.25 * weight
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        C.ExponentialMovingAverage(1.0)


@pytest.mark.parametrize("read_scalars", [scalars, scalars_of_tensorboard])
def test_tensorboard_reads_the_events(tmp_path: Path, read_scalars) -> None:
    model = fitted(C.TensorBoard(tmp_path, update_freq=2), epochs=3, validation_data=(X, Y))
    history = model.history.history
    train, validation = read_scalars(tmp_path / "train"), read_scalars(tmp_path / "validation")
    times = [name for name in train if name.startswith("time/")]
    losses = ["batch_loss", "batch_mae", "epoch_loss", "epoch_mae"]
    assert set(train) == {*losses, "steps_per_second", *times}
    assert sum(train[name][-1][1] for name in times) == pytest.approx(1, rel=1e-5)
    assert sorted(validation) == ["epoch_loss", "epoch_mae"]
    assert [step for step, _ in train["batch_loss"]] == [2, 4, 6, 8]
    for name in ("loss", "mae"):
        for read, prefix in ((train, ""), (validation, "val_")):
            assert [step for step, _ in read[f"epoch_{name}"]] == [0, 1, 2]
            values = [value for _, value in read[f"epoch_{name}"]]
            assert values == pytest.approx(history[prefix + name], rel=1e-6)
    with pytest.raises(ValueError, match="positive integer; got 0"):
        C.TensorBoard(tmp_path, update_freq=0)
    VirtualStrategy(2).run(lambda: fitted(C.TensorBoard(tmp_path / "two"), epochs=2) and None)
    assert len(list((tmp_path / "two" / "train").iterdir())) == 1
    two = read_scalars(tmp_path / "two" / "train")
    shares = [two[name] for name in two if name.startswith("time/")]
    assert len(shares) == 6
    late = [two["late/replica_0"], two["late/replica_1"]]
    for epoch in range(2):
        assert sum(share[epoch][1] for share in shares) == pytest.approx(1, rel=1e-5)
        assert 0.5 <= sum(share[epoch][1] for share in late) <= 1.0001
        assert two["steps_per_second"][epoch][1] > 1


def test_checksums_of_event_files() -> None:
    """The check value of CRC-32C for the digits 1 to 9 is 0xE3069283 (RFC 3720, B.4)."""
    assert crc32c(b"123456789") == 0xE3069283


def test_tensorboard_needs_its_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtra, match=r"TensorBoard needs .* pip install tensorboardX$"):
        C.TensorBoard()


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(TypeError, match="must be Callback objects"):
        fitted(print)
    assert math.isfinite(fitted().history.history["loss"][0])
    with pytest.raises(TypeError, match="callbacks must be a list; got 3"):
        model_of().fit(X, Y, verbose=0, callbacks=3)


def test_one_callback_needs_no_list() -> None:
    stop = C.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model = model_of()
    model.fit(X, Y, epochs=3, verbose=0, callbacks=stop)
    assert model.history is not None
    assert model.history.epoch == [0]
