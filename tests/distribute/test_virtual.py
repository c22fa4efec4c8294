"""VirtualStrategy: what run() takes and returns, and the order in which replicas run."""

import collections
import threading

import numpy as np
import pytest

from distopt import Tensor, Variable, optimizers
from distopt.distribute import PerReplica, VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch


def me():
    return get_replica_context().replica_id_in_sync_group


def meet():
    get_replica_context().all_reduce("sum", 0)


@pytest.fixture
def two():
    return VirtualStrategy(2)


def test_arguments_are_split_or_handed_to_all(two):
    def program(x, rest, *, y):
        return me(), x, rest[0]["a"], rest[1], y

    own = PerReplica(("p", "q"))
    got = two.run(program, args=(own, ({"a": own}, "same")), kwargs={"y": PerReplica((5, 6))})
    assert got[0].values == (0, 1)
    assert got[1].values == ("p", "q")
    assert got[2].values == ("p", "q")
    assert got[3] == "same"
    assert got[4].values == (5, 6)


def test_results_are_structures_of_values(two):
    Pair = collections.namedtuple("Pair", "left right")

    def program():
        x = Tensor(np.float32(me()))
        return {"a": x, "b": [x, (x, None)], "c": Pair("same", me())}

    got = two.run(program)
    assert isinstance(got["a"], PerReplica)
    assert [float(x) for x in got["a"].values] == [0.0, 1.0]
    assert [float(x) for x in got["b"][1][0].values] == [0.0, 1.0]
    assert got["b"][1][1] is None
    assert type(got["c"]) is Pair
    assert got["c"].left == "same"
    assert got["c"].right.values == (0, 1)


def test_the_same_object_comes_back_bare(two):
    thing = object()
    variable = Variable([1.0])
    assert two.run(lambda: thing) is thing
    assert two.run(lambda: variable) is variable
    assert two.run(lambda: None) is None
    assert two.run(lambda: "equal") == "equal"


def test_equal_tensors_are_still_per_replica(two):
    got = two.run(lambda: Tensor(np.ones(2)))
    assert isinstance(got, PerReplica)
    assert two.experimental_local_results(got) == got.values
    assert len(got.values) == 2
    assert two.experimental_local_results("other") == ("other",)


def test_structures_that_differ_are_per_replica_as_a_whole(two):
    got = two.run(lambda: [1] * (me() + 1))
    assert got.values == ([1], [1, 1])


def test_repr_shows_each_replica():
    assert repr(PerReplica((1, "b"))) == "PerReplica:{\n  0: 1,\n  1: 'b'\n}"


def test_one_replica():
    one = VirtualStrategy(1)
    assert one.run(lambda x: x + 1, args=(1,)) == 2
    assert one.experimental_local_results(3) == (3,)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_prints_come_in_the_order_of_replicas(size, capsys):
    def program():
        for step in range(3):
            print(step, me(), flush=True)
            meet()

    VirtualStrategy(size).run(program)
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert lines == [f"{step} {rank}" for step in range(3) for rank in range(size)]


def test_exactly_one_runs_at_a_time():
    running, worst = set(), []

    def program():
        for _ in range(50):
            running.add(me())
            sum(range(2000))  # long enough for the interpreter to switch threads, if it could
            worst.append(len(running))
            running.discard(me())
            meet()

    VirtualStrategy(4).run(program)
    assert max(worst) == 1
    assert len(worst) == 200


def test_replica_0_runs_in_the_callers_thread(two):
    threads = two.run(lambda: (threading.current_thread(),))[0].values
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threads[0]
    assert not threads[1].is_alive()


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_an_exception_comes_out_as_it_is_and_the_others_are_told(culprit):
    told = {}

    def program():
        try:
            meet()
            if me() == culprit:
                raise KeyError("the reason")
            meet()
        except ReplicaFailed as error:
            told[me()] = str(error)
            raise

    strategy = VirtualStrategy(3)
    with pytest.raises(KeyError, match="the reason") as raised:
        strategy.run(program)
    assert raised.traceback[-1].name == "program"
    assert sorted(told) == [r for r in range(3) if r != culprit]
    for text in told.values():
        assert text.startswith(f"replica {culprit} raised")
        assert "KeyError: 'the reason'" in text
    strategy.run(meet)  # and it can be used again


@pytest.mark.parametrize("early", [0, 1, 2])
def test_the_end_of_one_while_others_wait_is_an_error(early):
    def program():
        meet()
        if me() != early:
            meet()

    with pytest.raises(ReplicaMismatch, match=f"replica {early} has ended its program"):
        VirtualStrategy(3).run(program)


def test_nothing_is_left_running():
    before = threading.active_count()
    for _ in range(3):
        VirtualStrategy(3).run(meet)
        with pytest.raises(ZeroDivisionError):
            VirtualStrategy(3).run(lambda: 1 / me())
    assert threading.active_count() == before


def test_exit_is_an_exception_too(two):
    def program():
        if me() == 1:
            raise SystemExit(3)
        meet()

    with pytest.raises(SystemExit) as raised:
        two.run(program)
    assert raised.value.code == 3


@pytest.mark.parametrize("make", [lambda: optimizers.SGD(1.0), lambda: optimizers.Adam(1.0)])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_optimizer_of_the_scope_is_shared_by_the_replicas(size, make):
    strategy = VirtualStrategy(size)
    with strategy.scope():
        v = Variable([0.0, 0.0])
        optimizer = make()

    def step():
        return int(optimizer.apply_gradients([(np.full(2, me() + 1.0, "f4"), v)]))

    assert [strategy.run(step) for _ in range(3)] == [1, 2, 3]
    assert int(optimizer.iterations) == 3
    assert len(optimizer.weights) == (1 if isinstance(optimizer, optimizers.SGD) else 3)
    if isinstance(optimizer, optimizers.SGD):
        assert v.numpy().tolist() == [-3.0 * sum(range(1, size + 1))] * 2


def test_one_optimizer_of_each_replica():
    strategy = VirtualStrategy(3)
    made = strategy.run(lambda: (optimizers.SGD(1.0), Variable([0.0])))

    def step(pair):
        optimizer, v = pair
        optimizer.apply_gradients([(np.ones(1, "f4"), v)])
        return int(optimizer.iterations), float(v[0])

    pairs = PerReplica(tuple(zip(*(x.values for x in made))))
    assert strategy.run(step, args=(pairs,)) == (1, -3.0)
    assert strategy.run(step, args=(pairs,)) == (2, -6.0)


def test_a_shared_user_written_optimizer_counts_once():
    class Plain(optimizers.Optimizer):
        def __init__(self):
            super().__init__("Plain")

        def _resource_apply_dense(self, grad, var):
            var.assign_sub(grad)

        def get_config(self):
            return {}

    v, optimizer = Variable([0.0, 0.0]), Plain()
    strategy = VirtualStrategy(2)
    for _ in range(2):
        strategy.run(lambda: optimizer.apply_gradients([(np.ones(2, "f4"), v)]) and None)
    assert int(optimizer.iterations) == 2
    assert v.numpy().tolist() == [-4.0, -4.0]


def test_shared_variables_with_one_gradient_of_own_aggregation(two):
    v, optimizer = Variable([0.0]), optimizers.SGD(1.0)

    def step():
        g = get_replica_context().all_reduce("mean", np.full(1, me() * 2.0, "f4"))
        optimizer.apply_gradients([(g, v)], experimental_aggregate_gradients=False)

    two.run(step)
    assert float(v[0]) == -1.0
    assert int(optimizer.iterations) == 1


def test_the_text_of_anothers_failure_holds_the_programs_lines(two, monkeypatch):
    texts = []

    def program():
        try:
            if me() == 1:
                Variable([1.0], name="w").assign([1.0, 2.0])
            meet()
        except ReplicaFailed as error:
            texts.append(str(error))
            raise

    for debug in ("0", "1"):
        monkeypatch.setenv("DISTOPT_DEBUG", debug)
        with pytest.raises(ValueError, match="'w:0' of shape"):
            two.run(program)
    short, whole = texts
    assert [line.rpartition(" in ")[2] for line in short.splitlines() if line.startswith("  File ")] == [
        "program"
    ]
    assert short.endswith("got a value of shape (2,)\n")
    assert ", in assign\n" in whole
