"""The numbers, names and configs of the real optimizers, as recorded in tests/golden."""

import json

import numpy as np
import pytest
import recordings

import distopt

CASES = recordings.load("cases")
CONFIGS = recordings.load("configs")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_case(case):
    optimizer, after = recordings.replay(case)
    assert not recordings.mismatches(case, optimizer, after)
    expected = case["expected"]
    assert int(optimizer.iterations) == expected["iterations"]
    assert optimizer.get_slot_names() == expected["slot_names"]
    assert [w.name for w in optimizer.weights] == expected["weight_names"]


def same(got, want):
    if isinstance(want, dict):
        return isinstance(got, dict) and list(got) == list(want) and all(same(got[k], want[k]) for k in want)
    if isinstance(want, (list, tuple)):
        return len(got) == len(want) and all(map(same, got, want))
    if isinstance(want, bool) or want is None or isinstance(want, str):
        return got == want
    return abs(float(got) - float(want)) <= 1e-6 * max(abs(float(want)), 1e-6)


def make(entry):
    kwargs = {k: recordings.hyper(v, recordings.Clock()) for k, v in entry["kwargs"].items()}
    return getattr(distopt.optimizers, entry["optimizer"])(**kwargs)


CONFIG_IDS = [f"{i:02d}-{c['optimizer']}" for i, c in enumerate(CONFIGS)]


@pytest.mark.parametrize("entry", CONFIGS, ids=CONFIG_IDS)
def test_config(entry):
    optimizer = make(entry)
    config = optimizer.get_config()
    assert list(config) == entry["order"]
    assert same(config, entry["config"])
    assert json.loads(json.dumps(config)) == config
    optimizer.apply_gradients([(np.array([0.1, 0.2], "f4"), distopt.Variable([1.0, 2.0], name="v0"))])
    assert same(optimizer.get_config(), entry["config_after_one_step"])


@pytest.mark.parametrize("entry", CONFIGS, ids=CONFIG_IDS)
def test_config_makes_the_same_optimizer_again(entry):
    optimizer = make(entry)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    by_name = distopt.optimizers.deserialize(distopt.optimizers.serialize(optimizer))
    assert type(by_name) is type(optimizer)
    assert by_name.get_config() == optimizer.get_config()
