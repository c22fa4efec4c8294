"""WarmupStableDecay, OneCycle and LinearScaling: theory, and the numbers of PyTorch."""

import numpy as np
import pytest
from replicated import on_replicas

from distopt import Variable, distribute
from distopt.optimizers import SGD
from distopt.optimizers import schedules as S


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
def test_warmup_stable_decay(shape):
    schedule = S.WarmupStableDecay(np.float64(0.4), 4, 10, 8, 0.1, 0.02, decay=shape)
    rates = schedule(np.arange(30)).numpy()
    np.testing.assert_allclose(rates[:5], [0.1, 0.175, 0.25, 0.325, 0.4], rtol=1e-15)
    assert (rates[4:15] == 0.4).all()
    assert (rates[22:] == 0.02).all()
    done = np.arange(1, 8) / 8
    left = {"linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2, "sqrt": 1 - np.sqrt(done)}[shape]
    np.testing.assert_allclose(rates[15:22], 0.02 + 0.38 * left, rtol=1e-13)


def test_phases_of_no_length():
    """Without a rise the first rate is that of the plateau; without a fall the rate drops at once."""
    schedule = S.WarmupStableDecay(0.5, 0, 2, 0, initial_learning_rate=9.0, end_learning_rate=0.25)
    assert [float(schedule(step)) for step in range(4)] == [0.5, 0.5, 0.25, 0.25]


def test_unknown_shapes():
    with pytest.raises(ValueError, match="decay must be"):
        S.WarmupStableDecay(0.5, 1, 2, 3, decay="exponential")
    with pytest.raises(ValueError, match="anneal_strategy must be"):
        S.OneCycle(0.5, 10, anneal_strategy="cosine")


@pytest.mark.torch
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize(("three_phase", "share"), [(False, 0.3), (True, 0.3), (False, 0.55)])
def test_one_cycle_has_the_numbers_of_torch(strategy, three_phase, share):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(()))
    theirs = torch.optim.SGD([parameter], 1.0)
    arguments = {"pct_start": share, "anneal_strategy": strategy, "three_phase": three_phase}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.7, total_steps=41, **arguments)
    want = []
    for _ in range(41):
        want.append(theirs.param_groups[0]["lr"])
        theirs.step()
        if len(want) < 41:
            scheduler.step()
    ours = S.OneCycle(np.float64(0.7), 41, **arguments)
    np.testing.assert_allclose(ours(np.arange(41)), want, rtol=0, atol=1e-15)
    assert float(ours(1000)) == pytest.approx(want[-1], rel=1e-10)


def test_linear_scaling_rises_from_the_rate_of_one_replica():
    schedule = S.LinearScaling(np.float64(0.1), 4, replicas=8)
    want = [0.1, 0.275, 0.45, 0.625, 0.8, 0.8]
    np.testing.assert_allclose(schedule(np.arange(6)), want, rtol=1e-15)
    assert float(S.LinearScaling(np.float64(0.1), replicas=8)(0)) == 0.8


def test_linear_scaling_of_a_schedule():
    base = S.PiecewiseConstantDecay([5], [np.float64(1.0), np.float64(0.25)])
    schedule = S.LinearScaling(base, 2, replicas=4)
    np.testing.assert_array_equal(schedule(np.arange(8)), [1, 2.5, 4, 4, 4, 4, 1, 1])
    assert S.LinearScaling(base, 2).get_config()["replicas"] is None


def test_linear_scaling_counts_the_replicas_of_the_job():
    """Means over a batch of any size, scaled: each example has the same weight in a step."""

    def program():
        assert distribute.get_strategy().num_replicas_in_sync == 3
        v = Variable(np.zeros(1))
        optimizer = SGD(S.LinearScaling(np.float64(0.5)), gradient_aggregator="mean")
        optimizer.apply_gradients([(np.ones(1), v)])
        return float(v.numpy()[0])

    assert on_replicas(3, program) == [-1.5] * 3


@pytest.mark.parametrize(("replicas", "error"), [(0, ValueError), (2.5, TypeError)])
def test_number_of_replicas_that_is_none(replicas, error):
    with pytest.raises(error, match="replicas"):
        S.LinearScaling(0.5, replicas=replicas)
