"""The conformance kit: the built-ins pass, and wrong aggregators fail for the right reason."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable, aggregators
from distopt.core.tensor import as_array
from distopt.distribute import get_replica_context
from distopt.testing import check_aggregator


def rank():
    return get_replica_context().replica_id_in_sync_group


@pytest.mark.parametrize(
    "aggregator",
    [
        None,
        "mean",
        "weighted_mean",
        "adasum",
        aggregators.chain("mean", "adasum"),
        aggregators.WeightedMean(5),
        aggregators.WeightedMean(lambda: rank() + 2),
        {"class_name": "chain", "config": {"aggregators": ["sum", "mean"]}},
    ],
)
def test_built_ins_conform(aggregator):
    report = check_aggregator(aggregator)
    assert report.passed
    assert report.cases == (
        "dense",
        "mixed dtypes",
        "empty and scalar",
        "None gradients",
        "sparse",
        "all zero",
        "no pairs",
        "config",
    )
    assert str(report).splitlines()[0].endswith(": conforms")


def summed(pairs):
    return aggregators.Sum()(pairs)


def no_aggregation(pairs):
    return pairs


def loses_one(pairs):
    return summed(pairs)[1:]


def overwrites(pairs):
    for g, _ in pairs:
        if g is not None:
            values = as_array(g.values if isinstance(g, IndexedSlices) else g)
            values *= 2
    return summed(pairs)


def widens(pairs):
    wide = lambda g: g if g is None or isinstance(g, IndexedSlices) else as_array(g).astype("f8")  # noqa: E731
    return [(wide(g), v) for g, v in summed(pairs)]


def unsteady(pairs, calls=[0]):
    calls[0] += 1 if rank() == 0 else 0
    return [(g if g is None else g * np.float32(calls[0]).astype(v.dtype), v) for g, v in summed(pairs)]


def averages_twice(pairs):
    return [(g if g is None else g / v.dtype.type(2), v) for g, v in summed(pairs)]


def only_replica_0(pairs):
    if rank() == 0:
        get_replica_context().all_reduce("sum", np.ones(1))
    return summed(pairs)


class MovesInCall(aggregators.Aggregator):
    def __init__(self):
        self.calls = Variable(0.0, name="calls")

    weights = property(lambda self: [self.calls])

    def __call__(self, pairs):
        self.calls.assign_add(1.0)
        return summed(pairs)


class WrongConfig(aggregators.Sum):
    def __init__(self, power=1):
        self.power = 2 * power

    def get_config(self):
        return {"power": self.power}


class NoConfig(aggregators.Sum):
    def __init__(self, power):
        self.power = power


def returns_nothing(pairs):
    summed(pairs)


WRONG = [
    (no_aggregation, "the replicas got different gradients of v0:0, v1:0, v2:0"),
    (loses_one, r"every variable that it got must be in it, each once; returned: v0:0 \(0 for 1\)"),
    (overwrites, "it changed a gradient or a variable that it was given"),
    (widens, "gradient of variable 'v0:0' has dtype float64, the variable float32"),
    (unsteady, "called twice with the same gradients, it gave different results"),
    (averages_twice, "1 replica: one replica's own gradients of v0:0, v1:0, v2:0 did not come back"),
    (only_replica_0, "2 replicas: raised ReplicaMismatch"),
    (MovesInCall(), r"a call changed its state: update it in finish_step\(\)"),
    (WrongConfig(), "an aggregator made from its config {'power': 2} has the config {'power': 4}"),
    (NoConfig(3), r"get_config\(\) and the constructor: TypeError"),
    (returns_nothing, "it returned NoneType: return .gradient, variable. pairs"),
]


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_wrong_aggregators_fail_for_the_right_reason(wrong, reason):
    with pytest.raises(AssertionError, match=reason) as error:
        check_aggregator(wrong)
    head, *lines = str(error.value).splitlines()
    assert aggregators.label(wrong) in head
    assert "findings" in head
    assert any(line.endswith("FAILED") for line in lines)


def test_only_what_is_wrong_is_reported():
    with pytest.raises(AssertionError) as error:
        check_aggregator(averages_twice)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert [line for line in lines if line.endswith(" ok")] == [
        "all zero           ok",
        "no pairs           ok",
    ]
    assert sum(line.endswith(" FAILED") for line in lines) == 5
    assert check_aggregator(averages_twice, skip=["identity"]).passed


def mean_of_the_documents(pairs):
    context = get_replica_context()
    return [(context.all_reduce("mean", g), v) for g, v in pairs]


def test_what_is_not_promised_can_be_skipped():
    with pytest.raises(AssertionError, match=r"None gradients +FAILED\n.*got None among its values"):
        check_aggregator(mean_of_the_documents)
    report = check_aggregator(mean_of_the_documents, skip=["None gradients"])
    assert "None gradients" not in report.cases
    with pytest.raises(ValueError, match=r"unknown .'sparce'"):
        check_aggregator("mean", skip=["sparce"])
