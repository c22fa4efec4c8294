"""Learning rate schedules: the recordings of the real ones, dtypes, shapes, configs, noise."""

import json
from pathlib import Path

import numpy as np
import pytest

from distopt.core import Tensor, Variable
from distopt.core.custom_objects import custom_object_scope
from distopt.optimizers import schedules as S

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "schedules.json").read_text())["schedules"]
IDS = [f"{i:02d}-{s['class']}" for i, s in enumerate(GOLDEN)]
EACH = [
    S.ExponentialDecay(0.1, 10, 0.5),
    S.InverseTimeDecay(0.1, 10, 0.5),
    S.PiecewiseConstantDecay([3, 6], [1.0, 0.5, 0.1]),
    S.PolynomialDecay(0.1, 10),
    S.CosineDecay(0.1, 10),
    S.CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=4),
    S.CosineDecayRestarts(0.1, 10),
    S.LinearCosineDecay(0.1, 10),
    S.LinearScaling(0.1, 4, replicas=8),
    S.LinearScaling(S.PolynomialDecay(0.1, 10), 4, replicas=8),
    S.NoisyLinearCosineDecay(0.1, 10),
    S.OneCycle(0.1, 10),
    S.WarmupStableDecay(0.1, 3, 4, 5),
    S.WarmupStableDecay(0.1, 0, 4, 5, decay="sqrt"),
]
NAMES = [type(s).__name__ for s in EACH]


@pytest.mark.parametrize("case", GOLDEN, ids=IDS)
def test_recorded_values(case):
    schedule = getattr(S, case["class"])(**case["kwargs"])
    for step, want in zip(case["steps"], case["values"], strict=True):
        got = schedule(step)
        assert got.dtype == case["dtype"]
        assert float(got) == pytest.approx(want, rel=2e-5, abs=1e-6)
    np.testing.assert_allclose(schedule(np.array(case["steps"])), case["values"], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("case", GOLDEN, ids=IDS)
def test_recorded_configs(case):
    schedule = getattr(S, case["class"])(**case["kwargs"])
    assert schedule.get_config() == case["get_config"]
    assert list(schedule.get_config()) == case["order"]
    assert S.serialize(schedule) == case["serialized"]


@pytest.mark.parametrize("schedule", EACH, ids=NAMES)
def test_config_round_trip(schedule):
    config = schedule.get_config()
    for again in (type(schedule).from_config(config), S.deserialize(S.serialize(schedule))):
        assert type(again) is type(schedule)
        assert again.get_config() == config
        assert [float(again(i)) for i in range(15)] == [float(schedule(i)) for i in range(15)]


@pytest.mark.parametrize("schedule", EACH, ids=NAMES)
def test_int_array_and_variable_agree(schedule):
    one_by_one = np.array([schedule(i).numpy() for i in range(12)])
    many = schedule(np.arange(12))
    assert isinstance(many, Tensor)
    np.testing.assert_array_equal(many.numpy(), one_by_one)
    assert float(schedule(Variable(7, dtype=np.int64))) == one_by_one[7]
    assert float(schedule(Tensor(7.0))) == one_by_one[7]
    assert schedule(np.arange(12).reshape(3, 4)).shape == (3, 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_of_the_initial_rate(dtype):
    rate = dtype(0.1)
    assert S.ExponentialDecay(rate, 10, 0.5)(3).dtype == dtype
    assert S.CosineDecayRestarts(rate, 10)(np.arange(3)).dtype == dtype
    assert S.PiecewiseConstantDecay([1], [rate, rate])(3).dtype == dtype
    assert S.NoisyLinearCosineDecay(rate, 10)(3).dtype == dtype


def test_float64_is_not_rounded_to_float32():
    got = float(S.ExponentialDecay(np.float64(0.1), 10, 0.5)(3))
    assert got == pytest.approx(0.1 * 0.5**0.3, rel=1e-15)


def test_python_int_is_a_float():
    assert float(S.ExponentialDecay(1, 10, 0.5)(10)) == 0.5
    assert float(S.PiecewiseConstantDecay([3], [1, 0.25])(4)) == 0.25


def test_zero_decay_steps_raise_nothing():
    assert np.isnan(float(S.CosineDecay(0.1, 0)(0)))
    assert float(S.ExponentialDecay(0.1, 0, 0.5)(1)) == 0.0


def test_piecewise_boundary_belongs_to_the_value_before():
    schedule = S.PiecewiseConstantDecay([3, 13], [0.5, 0.25, 0.125])
    assert [float(schedule(i)) for i in (3, 4, 13, 14)] == [0.5, 0.25, 0.25, 0.125]


def test_piecewise_errors():
    with pytest.raises(ValueError, match="3 boundaries and 3 values"):
        S.PiecewiseConstantDecay([1, 2, 3], [1.0, 2.0, 3.0])
    with pytest.raises(IndexError, match="at least one boundary"):
        S.PiecewiseConstantDecay([], [1.0])(0)


def test_cycle_ends_at_the_end_rate():
    schedule = S.PolynomialDecay(1.0, 10, end_learning_rate=0.25, cycle=True)
    assert [float(schedule(i)) for i in (0, 10, 20, 30)] == [1.0, 0.25, 0.25, 0.25]
    assert float(schedule(11)) > 0.25


def test_noise_depends_on_seed_and_step_alone():
    schedule = S.NoisyLinearCosineDecay(0.1, 100, seed=3)
    again = S.NoisyLinearCosineDecay.from_config(schedule.get_config())
    later = [float(again(i)) for i in reversed(range(20))]
    assert [float(schedule(i)) for i in range(20)] == later[::-1]
    other = S.NoisyLinearCosineDecay(0.1, 100, seed=4)
    assert all(float(schedule(i)) != float(other(i)) for i in range(20))


def test_noise_has_the_told_variance():
    steps = np.full(20_000, 8) + np.arange(20_000) * 0  # the same step draws the same number
    schedule = S.NoisyLinearCosineDecay(np.float64(1.0), 10**9, initial_variance=4.0, variance_decay=0.5)
    assert np.ptp(schedule(steps).numpy()) == 0.0
    steps = np.arange(8, 4008)
    noise = schedule(steps).numpy() - S.LinearCosineDecay(np.float64(1.0), 10**9)(steps).numpy()
    scaled = noise / np.sqrt(4.0 / (1.0 + steps) ** 0.5)
    assert abs(scaled.mean()) < 4 / np.sqrt(4000)
    assert abs(scaled.var() - 1) < 4 * np.sqrt(2 / 4000)


def test_base_class_is_abstract():
    schedule = S.LearningRateSchedule()
    with pytest.raises(NotImplementedError, match="__call__"):
        schedule(0)
    with pytest.raises(NotImplementedError, match="get_config"):
        schedule.get_config()


class Halving(S.LearningRateSchedule):
    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return self.first / (step + 1)

    def get_config(self):
        return {"first": self.first}


def test_user_schedule():
    config = S.serialize(Halving(2.0))
    assert config == {"class_name": "Halving", "config": {"first": 2.0}}
    with pytest.raises(ValueError, match="Unknown decay: Halving"):
        S.deserialize(config)
    assert S.deserialize(config, custom_objects={"Halving": Halving})(1) == 1.0
    with custom_object_scope({"Halving": Halving}):
        assert S.deserialize(config)(3) == 0.5


@pytest.mark.parametrize("config", ["exponentialdecay", {"class_name": "exponentialdecay", "config": {}}])
def test_class_names_are_exact(config):
    with pytest.raises(ValueError, match=r"Unknown decay: exponentialdecay. Did you mean 'ExponentialDecay'"):
        S.deserialize(config)


@pytest.mark.parametrize("config", [{}, {"class_name": "ExponentialDecay"}, 3])
def test_malformed_config(config):
    with pytest.raises(ValueError, match="Improper config format"):
        S.deserialize(config)


def test_serialize_none():
    assert S.serialize(None) is None
