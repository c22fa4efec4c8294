"""The conformance kit: the built-ins pass, and wrong aggregators fail for the right reason."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable, VariableSynchronization, aggregators
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
    (loses_one, r"the result must contain every variable exactly once; returned: v0:0 \(0 for 1\)"),
    (overwrites, "it changed a gradient or a variable that was passed in"),
    (widens, "gradient of variable 'v0:0' has dtype float64, the variable float32"),
    (unsteady, "called twice with the same gradients, it gave different results"),
    (averages_twice, "1 replica: a single replica did not get back its own gradients of v0:0, v1:0, v2:0"),
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


class Feedback(aggregators.Aggregator):
    """Sends the whole numbers of gradients, and keeps the rest; right or wrong as subclasses make it."""

    synchronization = VariableSynchronization.ON_READ

    def __init__(self):
        self.rest, self.next = {}, {}

    def zeros(self, v):
        zeros = np.zeros(v.shape, v.dtype)
        return Variable(zeros, trainable=False, name="rest", synchronization=self.synchronization)

    def build(self, variables):
        for v in variables:
            if id(v) not in self.rest:
                self.rest[id(v)], self.next[id(v)] = self.zeros(v), self.zeros(v)

    @property
    def weights(self):
        return list(self.rest.values())

    def keep(self, v, rest):
        self.next[id(v)].assign(rest)

    def __call__(self, pairs):
        result = []
        for g, v in pairs:
            whole = (g.to_dense(v.shape) if isinstance(g, IndexedSlices) else np.asarray(g)) + self.rest[
                id(v)
            ]
            sent = np.rint(as_array(whole))
            self.keep(v, as_array(whole) - sent)
            result.append((get_replica_context().all_reduce("sum", sent), v))
        return result

    def finish_step(self):
        for key, rest in self.rest.items():
            rest.assign(self.next[key])


class InTheCall(Feedback):
    def keep(self, v, rest):
        self.rest[id(v)].assign(rest)

    def finish_step(self):
        pass


class OneForAll(Feedback):
    synchronization = VariableSynchronization.AUTO


class InAttributes(Feedback):
    weights = property(lambda self: [])

    def zeros(self, v):
        return np.zeros(v.shape, v.dtype)

    def keep(self, v, rest):
        self.next[id(v)] = rest

    def finish_step(self):
        self.rest.update(self.next)


class InAttributesInTheCall(InAttributes):
    finish_step = aggregators.Aggregator.finish_step

    def keep(self, v, rest):
        self.rest[id(v)] = rest


class LeftInAnAttribute(Feedback):
    def keep(self, v, rest):
        self.next[id(v)] = rest


NOT_SAVED = "training that continues from saved weights differs from training without interruption"
NOT_SHARED = "training with one aggregator for all replicas of a process differs from one for each"
WRONG_STATE = [
    (InTheCall, ["a call changed its state: update it in finish_step()"]),
    (InAttributesInTheCall, ["called twice with the same gradients, it gave different results"]),
    (InAttributes, [f"1 replica: {NOT_SAVED}", f"4 replicas: {NOT_SAVED}", f"4 replicas: {NOT_SHARED}"]),
    (LeftInAnAttribute, [f"2 replicas: {NOT_SHARED}", f"4 replicas: {NOT_SHARED}"]),
    (OneForAll, ["2 replicas: in a training, raised ReplicaMismatch: audit of", "4 replicas: in a training"]),
]
ROUNDS = ["identity", "None gradients"]


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: aggregators.chain(a)])
def test_state_of_a_replicas_own_conforms(wrap):
    skip = [*ROUNDS, "config"]  # not registered
    assert check_aggregator(wrap(Feedback()), skip=skip).cases[-1] == "state"
    assert "state" not in check_aggregator(wrap(Feedback()), skip=[*skip, "state"]).cases


@pytest.mark.parametrize(("wrong", "reasons"), WRONG_STATE)
def test_state_kept_wrongly_is_found_and_the_cure_named(wrong, reasons):
    with pytest.raises(AssertionError) as error:
        check_aggregator(wrong(), skip=ROUNDS)
    text = str(error.value)
    assert all(reason in text for reason in reasons), text
    for cure in ("build()", "weights", "finish_step()", "VariableSynchronization.ON_READ"):
        assert cure in " ".join(text.splitlines()[-3:])


def test_state_that_was_only_left_in_an_attribute_is_all_that_is_reported():
    with pytest.raises(AssertionError) as error:
        check_aggregator(LeftInAnAttribute(), skip=ROUNDS)
    assert NOT_SAVED not in str(error.value)
    assert str(error.value).count("FAILED") == 1


def test_other_failures_do_not_speak_of_state():
    with pytest.raises(AssertionError) as error:
        check_aggregator(averages_twice)
    assert "finish_step" not in str(error.value)


def test_who_fails_at_none_is_told_that_no_optimizer_passes_it():
    with pytest.raises(AssertionError, match=r'passes no None: .*skip=\["None gradients"\]'):
        check_aggregator(mean_of_the_documents)
