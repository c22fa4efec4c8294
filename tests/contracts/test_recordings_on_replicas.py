"""The recordings of the real optimizers, each gradient coming in parts from all replicas."""

import numpy as np
import programs
import pytest
import recordings

import distopt

CLIPS = {"clipvalue", "clipnorm", "global_clipnorm"}


def sparse(case):
    return any(g is not None and "values" in g for step in case["steps"] for g in step["grads"])


def clipped(case):
    return bool(CLIPS & set(case["kwargs"]) or CLIPS & {e["set"] for e in case["events"]})


def double(case):
    return any(recordings.array(v["init"]).dtype == np.float64 for v in case["variables"])


# Clipped sparse gradients aside: their rule looks at single rows as given.
CASES = [case for case in recordings.load("cases") if not (sparse(case) and clipped(case))]


def part_of(gradient, variable):
    """This replica's part; parts add up exactly, for they are single elements or rows."""
    own, count = programs.rank(), programs.size()
    if isinstance(gradient, distopt.IndexedSlices):
        mine = slice(own, None, count)
        return distopt.IndexedSlices(gradient.values[mine], gradient.indices[mine], gradient.dense_shape)
    values = np.array(gradient)
    flat = values.reshape(-1)
    flat[np.arange(flat.size) % count != own] = 0
    return distopt.convert_to_tensor(values)


@pytest.mark.parametrize("wide", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["narrow", "wide"])
@pytest.mark.parametrize("name", sorted({case["optimizer"] for case in CASES}))
def test_gradients_in_parts(replicas, name, wide):
    """The cases in float64 are slow: those of the same rules on one replica are not."""
    if replicas.size == 1:
        pytest.skip("tests/optimizers/test_golden.py replays them on one replica")
    chosen = [case for case in CASES if case["optimizer"] == name and double(case) == wide]
    assert chosen

    def program():
        found = {}
        for case in chosen:
            optimizer, after = recordings.replay(case, part_of)
            wrong = recordings.mismatches(case, optimizer, after)
            if wrong or int(optimizer.iterations) != case["expected"]["iterations"]:
                found[case["id"]] = wrong or "iterations"
        return found

    assert replicas.run(program) == [{}] * replicas.size
