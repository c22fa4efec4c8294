"""The numbers, names and configs of the real optimizers, as recorded in tests/golden."""

import json

import numpy as np
import pytest
import recordings

import distopt
from distopt.distribute import get_replica_context

CASES = recordings.load("cases")
CONFIGS = recordings.load("configs")

CLIPS = {"clipvalue", "clipnorm", "global_clipnorm"}


def sparse(case):
    return any(g is not None and "values" in g for step in case["steps"] for g in step["grads"])


def clipped(case):
    return bool(CLIPS & set(case["kwargs"]) or CLIPS & {e["set"] for e in case["events"]})


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_case(case):
    optimizer, after = recordings.replay(case)
    assert not recordings.mismatches(case, optimizer, after)
    expected = case["expected"]
    assert int(optimizer.iterations) == expected["iterations"]
    assert optimizer.get_slot_names() == expected["slot_names"]
    assert [w.name for w in optimizer.weights] == expected["weight_names"]


def part_of(gradient, variable):
    """This replica's part: parts are exact, for they are single elements, rows, or halves."""
    context = get_replica_context()
    own, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    if isinstance(gradient, distopt.IndexedSlices):
        mine = slice(own, None, count)
        return distopt.IndexedSlices(gradient.values[mine], gradient.indices[mine], gradient.dense_shape)
    values = np.array(gradient)
    flat = values.reshape(-1)
    flat[np.arange(flat.size) % count != own] = 0
    return distopt.convert_to_tensor(values)


# Clipped sparse gradients aside: their rule looks at single rows as given.
@pytest.mark.parametrize("case", [c for c in CASES if not (sparse(c) and clipped(c))], ids=lambda c: c["id"])
def test_case_with_gradients_split_over_replicas(case, replicas):
    def program():
        optimizer, after = recordings.replay(case, part_of)
        return recordings.mismatches(case, optimizer, after), int(optimizer.iterations)

    for found, iterations in replicas.run(program):
        assert not found
        assert iterations == case["expected"]["iterations"]


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
