"""Global random generators are each replica's own: the draws are those of separate processes."""

import functools
import inspect
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from distopt.core.generators import differences, save_states, seed_from_entropy, set_states
from distopt.distribute import VirtualStrategy, get_replica_context
from tests.replicated import on_replicas, rank


def seed(number):
    random.seed(number)
    np.random.seed(number)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(number)


def draw():
    """Numbers of all that generators keep: of two normal ones the second is made with the first."""
    drawn = [random.gauss(0, 1), random.random(), float(np.random.randn()), float(np.random.rand())]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        drawn += torch.nn.functional.dropout(torch.ones(5), 0.5).tolist() + torch.randn(1).tolist()
    return drawn


@functools.cache
def in_a_process(number, times, head):
    """The draws of a plain process with a seed."""
    functions = inspect.getsource(seed) + inspect.getsource(draw)
    text = (
        f"import json, random, sys\nimport numpy as np\n{head}\n{functions}"
        f"seed({number})\nprint(json.dumps([draw() for _ in range({times})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=100, check=True
    )
    return json.loads(done.stdout)


def run(strategy, program):
    """What the program returns on each replica, by number."""
    found = {}
    strategy.run(lambda: found.update({rank(): program()}))
    return [found[i] for i in range(strategy.num_replicas_in_sync)]


def meet():
    get_replica_context().all_reduce("sum", 0)


@pytest.fixture(autouse=True)
def states_of_the_process():
    states = save_states()
    yield
    set_states(states)


@pytest.mark.launches
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
def test_draws_are_those_of_processes_with_the_same_seeds(library, size, monkeypatch):
    if library == "torch":
        pytest.importorskip("torch")
    else:
        monkeypatch.delitem(sys.modules, "torch", raising=False)

    def program():
        seed(rank())
        drawn = []
        for _ in range(3):
            drawn.append(draw())
            meet()
        return drawn

    found = on_replicas(size, program)
    assert len({str(drawn) for drawn in found}) == size
    assert found == [in_a_process(i, 3, f"import {library}") for i in range(size)]


def test_a_replica_goes_on_where_its_last_run_ended():
    strategy = VirtualStrategy(2)
    strategy.run(lambda: seed(rank()))
    runs = [run(strategy, draw) for _ in range(2)]
    for i in range(2):
        seed(i)
        assert [drawn[i] for drawn in runs] == [draw(), draw()]


def test_replicas_do_not_draw_from_each_others_generators():
    def program():
        seed(7)
        if rank() == 1:
            draw()
        meet()
        return draw()

    first, second = on_replicas(2, program)
    seed(7)
    assert [first, second] == [draw(), draw()]


def test_code_between_runs_speaks_for_all_replicas():
    """As in processes that all run it. A generator that it leaves alone stays each replica's own."""
    strategy = VirtualStrategy(2)
    seed(5)
    expected = draw()
    seed(5)
    assert run(strategy, draw) == [expected, expected]
    strategy.run(lambda: seed(rank()))
    np.random.seed(5)
    first, second = run(strategy, draw)
    assert first[2:4] == second[2:4] == expected[2:4]
    for i, drawn in enumerate((first, second)):
        seed(i)
        assert drawn[:2] == draw()[:2]


def test_the_caller_goes_on_as_replica_0():
    strategy = VirtualStrategy(2)
    strategy.run(lambda: seed(rank() + 3))
    drawn = draw()
    seed(3)
    assert drawn == draw()


def test_one_replica_draws_as_without_a_strategy():
    seed(3)
    found = [VirtualStrategy(1).run(draw), draw()]
    seed(3)
    assert found == [draw(), draw()]


def test_replicas_that_stand_in_within_merge_call_have_their_own():
    def merge(strategy):
        def program():
            np.random.seed(rank())
            meet()
            return np.random.rand()

        return strategy.run(program)

    found = on_replicas(2, lambda: get_replica_context().merge_call(merge))
    assert found == [np.random.RandomState(i).rand() for i in range(2)]


def test_after_an_error_the_strategy_goes_on():
    strategy = VirtualStrategy(2)

    def fails():
        seed(rank())
        if rank() == 1:
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        strategy.run(fails)
    found = run(strategy, draw)
    for i in range(2):
        seed(i)
        assert found[i] == draw()


def test_numpys_bit_generator_can_be_another_one():
    def program():
        if rank() == 1:
            np.random.set_bit_generator(np.random.PCG64(3))
        else:
            np.random.seed(3)
        meet()
        return np.random.get_bit_generator().state["bit_generator"], np.random.rand()

    found = on_replicas(2, program)
    assert found == [
        ("MT19937", np.random.RandomState(3).rand()),
        ("PCG64", np.random.RandomState(np.random.PCG64(3)).rand()),
    ]
    assert np.random.get_bit_generator().state["bit_generator"] == "MT19937"


def test_seeds_from_entropy_differ_and_differences_name_the_generator():
    seed(0)
    before = save_states()
    assert differences(before, save_states()) == {}
    random.random()
    assert list(differences(save_states(), before)) == ["random"]
    set_states(before)
    np.random.randn()
    one = save_states()
    np.random.randn()  # takes the number kept from the pair, and no new bits
    assert list(differences(save_states(), one)) == ["numpy"]
    seed_from_entropy()
    drawn = draw()
    seed_from_entropy()
    assert not set(drawn[:4]) & set(draw()[:4])
