"""What is saved comes back, on the same number of replicas and on another one."""

import random

import numpy as np
import pytest
from saved_training import training

from distopt import Variable, VariableAggregation, VariableSynchronization, keras
from distopt.checkpoint import CheckpointManager
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed
from distopt.keras import layers
from distopt.optimizers import SGD, Adam, Nadam
from distopt.optimizers.schedules import ExponentialDecay


@pytest.mark.parametrize("background", [False, True])
def test_a_restart_gives_the_bits_of_a_run_never_interrupted(replicas, tmp_path, background):
    whole = replicas.run(lambda: training(tmp_path / "whole", 9))
    replicas.run(lambda: training(tmp_path / "parts", 4, save_at=4, background=background))
    assert replicas.run(lambda: training(tmp_path / "parts", 9)) == whole


def test_nothing_is_restored_from_nothing(replicas, tmp_path):
    def program():
        manager = CheckpointManager(tmp_path / "none", mine={"epoch": 0})
        return manager.restore(), manager.latest, manager.checkpoints

    assert replicas.run(program) == [(False, None, [])] * replicas.size


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 2), (2, 4), (3, 2)])
def test_weights_and_slots_are_right_at_another_number_of_replicas(tmp_path, before, after):
    def objects():
        w = Variable(np.zeros((4, 2), np.float32), name="w")
        return w, Adam(0.1)

    def save():
        w, optimizer = objects()
        for step in range(3):
            optimizer.apply_gradients([(np.full((4, 2), step + 1.0, np.float32), w)])
        CheckpointManager(tmp_path, variables=[w], optimizer=optimizer).save()
        return w.numpy(), optimizer.get_weights()

    def restore():
        w, optimizer = objects()
        assert CheckpointManager(tmp_path, variables=[w], optimizer=optimizer).restore()
        found = w.numpy(), optimizer.get_weights()
        optimizer.apply_gradients([(np.ones((4, 2), np.float32), w)])  # and they can go on
        assert int(optimizer.iterations) == 4
        return found

    saved = run(before, save)[0]
    for w, weights in run(after, restore):
        np.testing.assert_array_equal(w, saved[0])
        assert len(weights) == len(saved[1])
        for array, wanted in zip(weights, saved[1], strict=True):
            np.testing.assert_array_equal(array, wanted)


def run(size, program):
    results = [None] * size

    def collect():
        results[get_replica_context().replica_id_in_sync_group] = program()

    VirtualStrategy(size).run(collect)
    return results


def test_hyperparameters_come_back_and_schedules_stay(replicas, tmp_path):
    def program():
        w = Variable([1.0], name="w")
        optimizer = SGD(0.5, momentum=0.9)
        manager = CheckpointManager(tmp_path, variables=w, optimizer=optimizer)
        optimizer.apply_gradients([([1.0], w)])
        optimizer.learning_rate = 0.125
        manager.save()
        fresh, v = SGD(0.5, momentum=0.9), Variable([0.0], name="w")
        CheckpointManager(tmp_path, variables=v, optimizer=fresh).restore()
        scheduled = SGD(ExponentialDecay(0.5, 10, 0.9), momentum=0.9)
        with pytest.raises((ValueError, ReplicaFailed), match="hyper/learning_rate"):
            CheckpointManager(tmp_path, variables=v, optimizer=scheduled).restore()
        return float(fresh.learning_rate), float(fresh.momentum), v.numpy().tolist() == w.numpy().tolist()

    assert replicas.run(program) == [(0.125, float(np.float32(0.9)), True)] * replicas.size


def test_the_order_of_weights_is_that_of_the_steps_that_made_them(tmp_path):
    def objects():
        return Variable([1.0], name="a"), Variable([2.0, 3.0], name="b"), Nadam(0.1)

    a, b, optimizer = objects()
    optimizer.apply_gradients([([1.0], a)])
    optimizer.apply_gradients([([1.0, 1.0], b)])
    CheckpointManager(tmp_path, variables=[a, b], optimizer=optimizer).save()
    c, d, fresh = objects()
    CheckpointManager(tmp_path, variables=[c, d], optimizer=fresh).restore()
    assert [v.shape for v in fresh.weights] == [v.shape for v in optimizer.weights]
    for ours, theirs in zip(fresh.get_weights(), optimizer.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_ones_own_state_comes_back_as_it_was(tmp_path):
    mine = {
        "epoch": 3,
        "best": float("inf"),
        "history": [1.5, None, True, "ä"],
        "shape": (2, (3,)),
        7: np.arange(6, dtype=np.int16).reshape(2, 3),
        "scalar": np.float64(0.1),
        "big": 2**200,
        "complex": np.array([1 + 2j]),
        "words": np.array(["a", "bc"]),
        "none": np.zeros((0, 3), np.complex128),
    }
    listed = [1, [2, 3]]
    CheckpointManager(tmp_path, mine=mine, listed=listed).save()
    found, found_list = {"later": 1}, [0]
    assert CheckpointManager(tmp_path, mine=found, listed=found_list).restore()
    assert found_list == listed
    assert list(found) == list(mine)
    for key, value in mine.items():
        assert type(found[key]) is type(value)
        if not isinstance(value, np.ndarray):
            assert found[key] == value
        else:
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == value.dtype
            found[key][...] = value  # it can be written


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "uint64", "float16", "float64", "complex64", "complex128", ">f4"]
)
def test_every_dtype(tmp_path, dtype):
    value = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    v, scalar = Variable(value, name="v"), Variable(value[1:, 2:].reshape(()), name="s")
    CheckpointManager(tmp_path, variables=[v, scalar]).save()
    fresh = [Variable(np.zeros_like(value), name="v"), Variable(np.zeros((), value.dtype), name="s")]
    CheckpointManager(tmp_path, variables=fresh).restore()
    np.testing.assert_array_equal(fresh[0].numpy(), value)
    np.testing.assert_array_equal(fresh[1].numpy(), value[1, 2])


class Batches:
    """A position in the data, by the protocol."""

    def __init__(self, start):
        self.position = start

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def test_states_that_differ_are_each_replicas_own(replicas, tmp_path):
    def program():
        rank = get_replica_context().replica_id_in_sync_group
        data, rng, python = Batches(10 + rank), np.random.default_rng(rank), random.Random(rank)
        old = np.random.RandomState(rank)
        CheckpointManager(tmp_path, data=data, rng=rng, python=python, old=old).save()
        wanted = 10 + rank, rng.random(), python.random(), old.rand()
        data.position = 0
        CheckpointManager(tmp_path, data=data, rng=rng, python=python, old=old).restore()
        return wanted == (data.position, rng.random(), python.random(), old.rand())

    assert replicas.run(program) == [True] * replicas.size


def test_replicas_that_the_checkpoint_does_not_know_keep_their_state(tmp_path):
    def save():
        CheckpointManager(tmp_path, data=Batches(get_replica_context().replica_id_in_sync_group)).save()

    def restore():
        data = Batches(100)
        CheckpointManager(tmp_path, data=data).restore()
        return data.position

    run(2, save)
    assert run(3, restore) == [0, 1, 100]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_metrics_keep_their_sums(tmp_path, after):
    def save():
        metric = keras.metrics.Mean()
        metric.update_state(np.arange(3.0) + get_replica_context().replica_id_in_sync_group)
        CheckpointManager(tmp_path, metrics=[metric]).save()
        return float(metric.result())

    def restore():
        metric = keras.metrics.Mean()
        CheckpointManager(tmp_path, metrics=[metric]).restore()
        return float(metric.result())

    wanted = run(2, save)[0]
    assert run(after, restore) == [wanted] * after


def test_a_mean_on_read(tmp_path):
    def variable(value):
        return Variable(
            value,
            name="m",
            synchronization=VariableSynchronization.ON_READ,
            aggregation=VariableAggregation.MEAN,
        )

    def save():
        v = variable([0.0, 0.0])
        v.assign([1.0 + get_replica_context().replica_id_in_sync_group, 0.0])
        CheckpointManager(tmp_path, variables=[v]).save()

    def restore():
        v = variable([5.0, 5.0])
        CheckpointManager(tmp_path, variables=[v]).restore()
        return v.numpy().tolist()

    run(2, save)
    assert run(2, restore) == [[1.0, 0.0], [2.0, 0.0]]
    assert run(4, restore) == [[1.5, 0.0]] * 4


def test_variables_that_all_replicas_share(tmp_path):
    strategy = VirtualStrategy(2)
    with strategy.scope():
        shared = Variable([1.0, 2.0], name="shared")
        summed = Variable([3.0], name="summed", aggregation=VariableAggregation.SUM)
        optimizer = SGD(0.5)
        manager = CheckpointManager(tmp_path, variables=[shared, summed], optimizer=optimizer)

    def train():
        optimizer.apply_gradients([([1.0, 1.0], shared)])

    strategy.run(train)
    strategy.run(manager.save)
    assert shared.numpy().tolist() == [0.0, 1.0]
    strategy.run(train)
    with strategy.scope():
        summed.assign([9.0])
    assert strategy.run(manager.restore) is True
    assert shared.numpy().tolist() == [0.0, 1.0]
    assert summed.numpy().tolist() == [3.0]
    assert int(optimizer.iterations) == 1
    strategy.run(train)
    assert shared.numpy().tolist() == [-1.0, 0.0]


def test_replicas_that_updated_alone_go_on_alone(tmp_path):
    def program(start, steps, save):
        rank = get_replica_context().replica_id_in_sync_group
        w = Variable([0.0, 0.0], name="w")
        optimizer = SGD(1.0, momentum=0.5)
        manager = CheckpointManager(tmp_path / str(start), variables=[w], optimizer=optimizer)
        manager.restore()
        for step in range(steps):
            gradient = [1.0 + rank, float(step)]
            optimizer.apply_gradients([(gradient, w)], experimental_aggregate_gradients=False)
        if save:
            manager.save()
        return w.numpy().tolist()

    first = run(2, lambda: program("a", 2, True))
    assert first[0] != first[1]
    whole = run(2, lambda: program("b", 2, True))
    assert whole == first
    second = run(2, lambda: program("a", 2, False))
    assert second[0] != second[1]
    assert run(2, lambda: program("b", 0, False)) == whole


def digits_model():
    np.random.seed(0)
    model = keras.Sequential(
        [layers.Dense(6, activation="relu", input_shape=(4,)), layers.Dropout(0.3, seed=1), layers.Dense(2)]
    )
    model.compile(optimizer=Adam(0.02), loss="mse")
    return model


def test_a_model_goes_on_with_the_same_bits(replicas, tmp_path):
    x = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    y = x[:, :2] ** 2

    def whole():
        model = digits_model()
        model.fit(x, y, batch_size=8, epochs=4, verbose=0)
        return [w.tobytes() for w in model.get_weights()]

    def parts():
        model = digits_model()
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        CheckpointManager(tmp_path, model=model).save()
        again = digits_model()
        for weight in again.weights:
            weight.assign(np.zeros(weight.shape))
        assert CheckpointManager(tmp_path, model=again).restore()
        again.fit(x, y, batch_size=8, epochs=4, initial_epoch=2, verbose=0)
        return [w.tobytes() for w in again.get_weights()]

    assert replicas.run(parts) == replicas.run(whole)


def test_only_some_of_what_was_saved(tmp_path):
    model = digits_model()
    CheckpointManager(tmp_path, model=model, mine={"epoch": 1}).save()
    again = keras.Sequential([layers.Dense(6, input_shape=(4,)), layers.Dense(2)])
    CheckpointManager(tmp_path, model=again).restore()
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_names_count_more_than_order(tmp_path):
    CheckpointManager(tmp_path, variables=[Variable([1.0], name="a"), Variable([2.0], name="b")]).save()
    b, a = Variable([0.0], name="b"), Variable([0.0], name="a")
    CheckpointManager(tmp_path, variables=[b, a]).restore()
    assert (a.numpy()[0], b.numpy()[0]) == (1.0, 2.0)
    first, second = Variable([0.0], name="w"), Variable([0.0], name="w")
    CheckpointManager(tmp_path, variables=[first, second]).restore()
    assert (first.numpy()[0], second.numpy()[0]) == (1.0, 2.0)


def test_keep(replicas, tmp_path):
    def program():
        mine = {"n": 0}
        manager = CheckpointManager(tmp_path, keep=2, mine=mine)
        for n in range(4):
            mine["n"] = n
            path = manager.save()
            assert manager.latest == path
        return [path.rpartition("/")[2] for path in manager.checkpoints]

    assert replicas.run(program) == [["checkpoint-00000003", "checkpoint-00000004"]] * replicas.size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00000003", "checkpoint-00000004"]


def test_the_background_save_holds_the_values_of_its_call(replicas, tmp_path):
    def program():
        w = Variable(np.zeros(1000), name="w")
        manager = CheckpointManager(tmp_path, variables=[w])
        for n in range(5):
            w.assign(np.full(1000, float(n)))
            manager.save(background=True)
            w.assign(np.full(1000, -1.0))
        manager.wait()
        manager.restore()
        return w.numpy().tolist()

    assert replicas.run(program) == [[4.0] * 1000] * replicas.size


def test_what_cannot_be_saved_is_refused(tmp_path):
    for wrong, part in [(3, "mine=...) cannot save a int"), (("a", "b"), "mine/0=...) cannot save a str")]:
        with pytest.raises(TypeError) as caught:
            CheckpointManager(tmp_path, mine=wrong).save()
        assert part in str(caught.value)
    with pytest.raises(TypeError, match="cannot save a object"):
        CheckpointManager(tmp_path, mine={"epoch": 1, "x": object()}).save()

    class Odd:
        def get_state(self):
            return {"a": [1, {2}]}

        def set_state(self, state):
            raise AssertionError

    with pytest.raises(TypeError, match=r"data\['a'\]\[1\] is a set"):
        CheckpointManager(tmp_path, data=Odd()).save()
    with pytest.raises(ValueError, match="keep must be at least 1"):
        CheckpointManager(tmp_path, keep=0, mine={})
    with pytest.raises(ValueError, match="nothing to save"):
        CheckpointManager(tmp_path)
    w, optimizer = Variable([1.0], name="w"), SGD(0.1, momentum=0.9)
    optimizer.apply_gradients([([1.0], w)])
    with pytest.raises(ValueError, match="'w:0', which is not among the objects"):
        CheckpointManager(tmp_path, optimizer=optimizer).save()


def test_between_replicas_it_is_refused(tmp_path):
    with VirtualStrategy(2).scope():
        manager = CheckpointManager(tmp_path, mine={})
        with pytest.raises(RuntimeError, match="cross-replica context"):
            manager.save()


def test_all_replicas_learn_of_what_one_cannot_save(tmp_path):
    def program():
        rank = get_replica_context().replica_id_in_sync_group
        mine = {"x": object() if rank == 1 else 0}
        with pytest.raises(TypeError if rank == 1 else ReplicaFailed, match="cannot save a object"):
            CheckpointManager(tmp_path, mine=mine).save()
        return CheckpointManager(tmp_path, mine={"x": 1}).save()[-1]

    assert run(2, program) == ["1", "1"]
