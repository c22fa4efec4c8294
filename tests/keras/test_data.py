"""Dealing out examples: shares, orders, sources, pipelines; iterators that end too early."""

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distopt import keras
from distopt.distribute import get_replica_context
from distopt.keras import callbacks as C
from distopt.keras import layers as L
from distopt.keras import losses
from distopt.keras.data import ArraySource, Dataset, IterableSource, example_order, share
from distopt.keras.training.checks import check_labels, check_numbers


@given(st.integers(0, 200), st.integers(1, 9))
def test_shares_are_contiguous_even_and_whole(count: int, replicas: int) -> None:
    parts = [share(count, r, replicas) for r in range(replicas)]
    assert parts[0][0] == 0
    assert parts[-1][1] == count
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    lengths = [stop - start for start, stop in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = example_order(50, seed=1, epoch=2)
    assert (first == example_order(50, seed=1, epoch=2)).all()
    assert (first != example_order(50, seed=1, epoch=3)).any()
    assert (first != example_order(50, seed=2, epoch=2)).any()
    assert sorted(first) == list(range(50))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_batches_do_not_depend_on_the_number_of_replicas(count: int) -> None:
    x, y = np.arange(13.0), np.arange(13)

    def batches(replica: int, of: int) -> list[Any]:
        source = ArraySource(x, y, x + 0.5, 5, shuffle=True, seed=3, replica=replica, replicas=of)
        assert (source.steps, source.examples) == (3, 13)
        return list(source.epoch(1))

    alone = batches(0, 1)
    assert [b.size for b in alone] == [5, 5, 3]
    parts = [batches(r, count) for r in range(count)]
    for step, whole in enumerate(alone):
        mine = [part[step] for part in parts]
        assert {b.size for b in mine} == {whole.size}
        assert [len(b.x) for b in mine] == [b.local for b in mine]
        for name in ("x", "y", "sample_weight"):
            joined = np.concatenate([getattr(b, name) for b in mine])
            assert joined.tolist() == getattr(whole, name).tolist()


def test_only_its_own_share_of_a_memmap_is_read(tmp_path: Path) -> None:
    """The file has holes and 64 GiB: reading it all would fill the memory."""
    path = tmp_path / "x.dat"
    with open(path, "wb") as file:
        file.truncate(1 << 36)
    row = 1 << 20
    mapped = np.memmap(path, np.float32, "r+", shape=((1 << 34) // row, row))
    mapped[4:8, 0] = [4, 5, 6, 7]
    source = ArraySource(mapped, None, None, 8, replica=1, replicas=2, steps=1)
    check_numbers(source.x, "x")
    (batch,) = source.epoch(0)
    assert batch.x[:, 0].tolist() == [4, 5, 6, 7]
    (mixed,) = ArraySource(mapped, None, None, 2, shuffle=True, replica=1, replicas=2, steps=1).epoch(0)
    assert mixed.x.shape == (1, row)


def test_views_of_a_memmap_are_not_read_through(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "x.dat", np.float32, "w+", shape=(9, 2))
    mapped[:] = np.nan
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    labels = np.memmap(tmp_path / "y.dat", np.float32, "w+", shape=(9,))
    for x, y in ((mapped, np.ones(9)), (np.asarray(mapped)[1:], labels[1:]), (mapped[2:][::2], np.ones(4))):
        history = model.fit(x, y, validation_split=0.3, verbose=0).history  # the parts are views as well
        assert np.isnan([history["loss"], history["val_loss"]]).all()
    with pytest.raises(ValueError, match="x has NaN"):
        model.fit(np.array(mapped), np.ones(9), verbose=0)


def test_labels_in_a_memmap_are_not_read_through(tmp_path: Path) -> None:
    labels = np.memmap(tmp_path / "y.dat", np.int64, "w+", shape=(50,))
    labels[-1] = 9
    few, output = np.zeros(1, np.int64), np.full((1, 3), 1 / 3, np.float32)
    loss = losses.SparseCategoricalCrossentropy()
    check_labels(few, output, loss, labels)
    with pytest.raises(ValueError, match="labels must be from 0 to 2"):
        check_labels(few, output, loss, np.array(labels))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((np.ones((3, 2)), np.ones(4), None, 2), "x has 3, y has 4"),
        ((np.ones((0, 2)), None, None, 2), "data are empty"),
        ((np.ones((3, 2)), None, None, 0), "at least 1; got 0"),
        (([np.ones((3, 2)), np.ones((2, 2))], None, None, 2), r"x\[0\] has 3, x\[1\] has 2"),
        ((np.float64(3.0), None, None, 2), "single value"),
    ],
)
def test_array_errors(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ArraySource(*arguments)


def test_steps_are_within_the_data() -> None:
    assert ArraySource(np.ones((9, 2)), None, None, 4, steps=2).examples == 8
    with pytest.raises(ValueError, match="from 1 to 3"):
        ArraySource(np.ones((9, 2)), None, None, 4, steps=4)


def test_an_iterable_that_ended_contributes_empty_batches() -> None:
    totals = iter([5, 4, 2, 0])
    source = IterableSource([(np.ones((3, 2)), np.ones(3))], lambda local: next(totals))
    source.sample()
    got = [(b.local, b.size, b.x.shape, b.y.shape) for b in source.epoch(0)]
    assert got == [(3, 5, (3, 2), (3, 1)), (0, 4, (0, 2), (0, 1)), (0, 2, (0, 2), (0, 1))]


def test_an_iterator_goes_on_where_it_stood() -> None:
    source = IterableSource((np.full((1, 1), i) for i in range(5)), lambda local: local, steps=2)
    source.sample()
    seen = [[int(b.x[0, 0]) for b in source.epoch(e)] for e in range(3)]
    assert seen == [[0, 1], [2, 3], [4]]


def test_an_iterable_is_read_again_each_epoch() -> None:
    source = IterableSource([np.full((1, 1), i) for i in range(3)], lambda local: local)
    source.sample()
    seen = [[int(b.x[0, 0]) for b in source.epoch(e)] for e in range(2)]
    assert seen == [[0, 1, 2], [0, 1, 2]]
    assert source.steps == 3


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="4 elements"):
        IterableSource([(1, 2, 3, 4)], int).sample()
    with pytest.raises(ValueError, match=r"y must be an array .* Batch single examples first"):
        IterableSource([(np.ones(4), np.float32(1))], int).sample()
    with pytest.raises(ValueError, match="empty"):
        IterableSource([], int).sample()


def test_dataset_pipeline() -> None:
    x = np.arange(10)
    data = Dataset.from_tensor_slices({"x": x, "y": -x}).map(lambda d: (d["x"] * 2, d["y"])).batch(4)
    assert len(data) == 3
    for _ in range(2):
        assert [(a.tolist(), b.tolist()) for a, b in data][2] == ([16, 18], [-8, -9])
    assert len(data.repeat(2)) == 6
    assert [a.shape[0] for a, _ in data.repeat().take(5)] == [4, 4, 2, 4, 4]
    assert len(Dataset.from_tensor_slices(x).batch(4, drop_remainder=True)) == 2
    assert list(Dataset.from_tensor_slices(x).shard(3, 1)) == [1, 4, 7]


def test_dataset_shuffles_anew_at_each_reading() -> None:
    first, second = (Dataset.from_tensor_slices(np.arange(30)).shuffle(seed=s) for s in (1, 1))
    one, two = list(first), list(first)
    assert sorted(one) == sorted(two) == list(range(30))
    assert one != two
    assert list(second) == one
    near = list(Dataset.from_tensor_slices(np.arange(30)).shuffle(buffer_size=10))
    assert sorted(near[:10]) == list(range(10))


@pytest.mark.parametrize("given", [0, 1, 5, 12])
def test_a_dataset_goes_on_from_its_state(given: int) -> None:
    def pipeline() -> Dataset:
        return Dataset.from_tensor_slices(np.arange(48)).shuffle(seed=3).batch(4).prefetch(2)

    whole = pipeline()
    wanted = [[batch.tolist() for batch in whole] for _ in range(3)]
    first = pipeline()
    assert [batch.tolist() for batch in first] == wanted[0]
    reading = iter(first)
    for batch in wanted[1][:given]:
        assert next(reading).tolist() == batch
    state = first.get_state()
    again = pipeline()
    again.set_state(state)
    assert [batch.tolist() for batch in again] == wanted[1][given:]
    assert [batch.tolist() for batch in again] == wanted[2]
    del reading  # given up: the next reading is another one, if this one had begun
    following = 2 if given else 1
    assert [batch.tolist() for batch in first] == wanted[following]
    assert first.get_state() == {"readings": following + 1, "given": 0}


def test_prefetch_keeps_order_hands_errors_on_and_ends_its_thread() -> None:
    def numbers() -> Any:
        yield from range(3)
        raise KeyError("bad row")

    read = iter(Dataset.from_generator(numbers).prefetch(2))
    assert [next(read) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="bad row"):
        next(read)
    dropped = iter(Dataset.from_generator(lambda: iter(range(10**9))).prefetch(1))
    assert next(dropped) == 0
    del dropped
    deadline = time.monotonic() + 5
    while any(t.name == "distopt-prefetch" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert list(Dataset.from_tensor_slices(np.arange(4)).prefetch()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="at least 1"):
        iter(Dataset.from_tensor_slices(np.arange(4)).prefetch(0))


EXAMPLES = np.random.default_rng(2).normal(size=(12, 3))
TARGETS = EXAMPLES.sum(1, keepdims=True) + 1


def model_of() -> keras.Sequential:
    model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(3,))])
    model.compile("sgd", "mse")
    return model


def batches(count: int) -> Any:
    for _ in range(count):
        yield EXAMPLES, TARGETS


@pytest.mark.parametrize(("count", "epochs"), [(5, 3), (4, 2), (3, 2), (1, 1)])
def test_training_ends_there(count: int, epochs: int, replicas: Any, caplog: Any) -> None:
    def program() -> Any:
        ends: list[Any] = []
        model = model_of()
        told = C.LambdaCallback(on_train_end=lambda logs: ends.append(dict(logs)))
        options = {"steps_per_epoch": 2, "epochs": 4, "validation_data": (EXAMPLES, TARGETS), "verbose": 0}
        history = model.fit(batches(count), callbacks=[told], **options)
        assert history is model.history
        assert history.epoch == list(range(epochs))
        assert len(history.history["loss"]) == len(history.history["val_loss"]) == epochs
        assert ends == [{name: values[-1] for name, values in history.history.items()}]
        return int(model.optimizer.iterations)

    assert replicas.run(program) == [count] * replicas.size
    warnings = [r.getMessage() for r in caplog.records if "the data ended before" in r.getMessage()]
    assert [text.split()[0] for text in warnings] == ["fit():"]


def test_replicas_data_may_end_at_different_times(replicas: Any) -> None:
    """Training goes on as long as one of them has any."""

    def program() -> Any:
        rank = int(get_replica_context().replica_id_in_sync_group)
        model = model_of()
        epochs = model.fit(batches(2 * rank + 2), steps_per_epoch=2, epochs=9, verbose=0).epoch
        return len(epochs), int(model.optimizer.iterations)

    assert replicas.run(program) == [(replicas.size, 2 * replicas.size)] * replicas.size


def test_so_do_iterables_that_give_none_the_next_time(caplog: Any) -> None:
    class Once:
        def __init__(self) -> None:
            self.left = batches(3)

        def __iter__(self) -> Any:
            yield from self.left

    history = model_of().fit(Once(), epochs=4, verbose=0)
    assert history.epoch == [0]
    assert "fit(): the data ended before" in caplog.text


def test_enough_data_are_no_reason_to_warn(caplog: Any) -> None:
    model = model_of()
    model.fit(batches(4), steps_per_epoch=2, epochs=2, verbose=0)
    model.fit(batches(4), verbose=0)
    model.evaluate(batches(4), steps=4, verbose=0)
    model.evaluate(batches(4), verbose=0)
    assert "ended" not in caplog.text


def test_evaluation_tells_of_it_too(caplog: Any) -> None:
    model = model_of()
    assert model.evaluate(batches(2), steps=3, verbose=0) == pytest.approx(
        model.evaluate(EXAMPLES, TARGETS, verbose=0)
    )
    assert "evaluate(): the data ended before" in caplog.text


def test_an_interrupted_fit_of_data_that_ended_ends_too(tmp_path: Any) -> None:
    class Crash(Exception):
        pass

    def fit(*callbacks: C.Callback) -> list[int]:
        backup = C.BackupAndRestore(tmp_path, delete_checkpoint=False)
        options = {"steps_per_epoch": 2, "epochs": 9, "verbose": 0}
        return model_of().fit(batches(4), callbacks=[*callbacks, backup], **options).epoch

    def crash(epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise Crash

    with pytest.raises(Crash):
        fit(C.LambdaCallback(on_epoch_begin=crash))
    assert fit() == [0, 1]
