"""Aggregate -> transform -> update, for every way to aggregate, against theory."""

import numpy as np
import programs
import pytest

import distopt
from distopt import aggregators, distribute
from distopt.optimizers import SGD, Adam

SHAPES = ((7, 5), (3,), (), (0, 2), (2, 3, 2))
STEPS = 3


def gradients(step, replica):
    return programs.part(step, replica, SHAPES)


def total(step, count):
    return [sum(parts) for parts in zip(*(gradients(step, r) for r in range(count)))]


def context():
    return distribute.get_replica_context()


def run_with(make, aggregate=True, change=lambda g: g):
    """Steps with each replica's own gradients."""
    variables, optimizer = programs.variables(), make()
    for step in range(STEPS):
        mine = change([np.copy(g) for g in gradients(step, programs.rank())])
        optimizer.apply_gradients(zip(mine, variables), experimental_aggregate_gradients=aggregate)
    return programs.state(optimizer, variables)


def reference(make, count, change=lambda g: g):
    """The same steps on one replica, with the gradients that theory says."""

    def program():
        variables, optimizer = programs.variables(), make()
        for step in range(STEPS):
            optimizer.apply_gradients(zip(change(total(step, count)), variables))
        return programs.state(optimizer, variables)

    return programs.alone(program)


def check(results, want):
    assert programs.equal(results)
    assert programs.close(results[0], want, 1e-6)


@pytest.mark.parametrize("name", programs.each(programs.OPTIMIZERS))
def test_default_is_the_sum(replicas, name):
    make = lambda: programs.make(name)  # noqa: E731
    results = replicas.run(lambda: run_with(make))
    want = reference(make, replicas.size)
    assert programs.equal(results)
    assert programs.same_bits(results[0], want)  # the parts are small multiples of 1/8: sums are exact


def scale(factor):
    return lambda gs: [(g * np.float32(factor)).astype(g.dtype) for g in gs]


@pytest.mark.parametrize("given", ["mean", aggregators.Mean(), {"class_name": "mean", "config": {}}])
def test_mean(replicas, given):
    make = lambda: Adam(0.01, gradient_aggregator=given)  # noqa: E731
    want = reference(lambda: Adam(0.01), replicas.size, scale(1 / replicas.size))
    check(replicas.run(lambda: run_with(make)), want)


def own_mean(pairs):
    """A custom aggregator as users write it."""
    pairs = list(pairs)
    reduced = context().all_reduce("mean", [g for g, _ in pairs])
    return [(g, v) for g, (_, v) in zip(reduced, pairs)]


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_custom_aggregator(replicas, name):
    results = replicas.run(lambda: run_with(lambda: programs.make(name, gradient_aggregator=own_mean)))
    check(results, reference(lambda: programs.make(name), replicas.size, scale(1 / replicas.size)))


@pytest.mark.tree
@pytest.mark.parametrize("registered", aggregators.identify.registry.names())
def test_every_registered_aggregator_gives_all_replicas_the_same(replicas, registered):
    config = {"aggregators": ["mean", "sum"]} if registered == "chain" else {}
    given = {"class_name": registered, "config": config}
    results = replicas.run(lambda: run_with(lambda: SGD(0.5, gradient_aggregator=given)))
    assert programs.equal(results)
    assert np.isfinite(results[0][0][0]).all()
    if replicas.size == 1 and registered != "sign_sgd":  # which takes signs everywhere
        assert programs.same_bits(results[0], reference(lambda: SGD(0.5), 1))


@pytest.mark.tree
def test_weighted_mean_weighs_examples(replicas):
    def program():
        aggregator = aggregators.WeightedMean(lambda: programs.rank() + 1)
        return run_with(lambda: SGD(0.5, gradient_aggregator=aggregator))

    def weighted(step):
        parts = zip(*(gradients(step, r) for r in range(replicas.size)))
        count = sum(range(1, replicas.size + 1))
        return [
            (sum((r + 1) * g for r, g in enumerate(part)) / np.float32(count)).astype("f4") for part in parts
        ]

    def theory():
        variables, optimizer = programs.variables(), SGD(0.5)
        for step in range(STEPS):
            optimizer.apply_gradients(zip(weighted(step), variables))
        return programs.state(optimizer, variables)

    check(replicas.run(program), programs.alone(theory))


def test_weighted_mean_of_nothing_applies_nothing(replicas):
    def program():
        v = distopt.Variable([1.0, 2.0])
        optimizer = SGD(1.0, gradient_aggregator=aggregators.WeightedMean(0))
        with pytest.raises(Exception, match="no replica has any") as error:
            optimizer.apply_gradients([(np.ones(2, "f4"), v)])
        return v.numpy().tolist(), int(optimizer.iterations), error.type.__name__

    assert replicas.run(program) == [([1.0, 2.0], 0, "ValueError")] * replicas.size


@pytest.mark.tree
def test_adasum_of_orthogonal_and_of_equal_gradients(replicas):
    def program():
        n = replicas.size
        v, w = distopt.Variable(np.zeros(n, "f4")), distopt.Variable(np.zeros(2, "f4"))
        optimizer = SGD(1.0, gradient_aggregator="adasum")
        optimizer.apply_gradients([(np.eye(n, dtype="f4")[programs.rank()], v), (np.ones(2, "f4"), w)])
        return v.numpy(), w.numpy()

    for v, w in replicas.run(program):
        assert np.allclose(v, -1.0)  # orthogonal: their sum
        assert np.allclose(w, -1.0)  # equal: their mean


@pytest.mark.parametrize("name", programs.each(programs.OPTIMIZERS))
def test_own_sum_without_aggregation_is_the_default_exactly(replicas, name):
    def summed():
        variables, optimizer = programs.variables(), programs.make(name)
        values = context().broadcast([v.numpy() for v in variables])
        for v, value in zip(variables, values):
            v.assign(value)
        for step in range(STEPS):
            own = context().all_reduce("sum", gradients(step, programs.rank()))
            optimizer.apply_gradients(zip(own, variables), experimental_aggregate_gradients=False)
        return programs.state(optimizer, variables)

    results = replicas.run(summed)
    defaults = replicas.run(lambda: run_with(lambda: programs.make(name)))
    assert programs.equal([*results, defaults[0]])


def test_own_sum_and_the_default_count_twice(replicas):
    def program():
        v, optimizer = distopt.Variable([0.0]), SGD(1.0)
        g = context().all_reduce("sum", np.ones(1, "f4"))
        optimizer.apply_gradients([(g, v)])
        return float(v[0])

    assert set(replicas.run(program)) == {-(float(replicas.size) ** 2)}


def test_without_aggregation_each_replica_keeps_to_its_own(replicas):
    def program():
        v, optimizer = distopt.Variable([0.0, 0.0]), SGD(1.0, momentum=0.5)
        for _ in range(2):
            g = np.full(2, programs.rank() + 1, "f4")
            optimizer.apply_gradients([(g, v)], experimental_aggregate_gradients=False)
        return (
            v.numpy().tolist(),
            optimizer.get_slot(v, "momentum").numpy().tolist(),
            int(optimizer.iterations),
        )

    want = [([-2.5 * r] * 2, [-1.5 * r] * 2, 2) for r in range(1, replicas.size + 1)]
    assert replicas.run(program) == want


def test_identity_is_no_aggregation(replicas):
    def program():
        v, optimizer = distopt.Variable([0.0]), SGD(1.0, gradient_aggregator=lambda pairs: pairs)
        optimizer.apply_gradients([(np.ones(1, "f4"), v)])
        return float(v[0]), int(optimizer.iterations)

    assert replicas.run(program) == [(-1.0, 1)] * replicas.size


@pytest.mark.parametrize(
    ("clips", "want"),
    [
        ({"clipvalue": 2.0}, lambda s: np.clip(s, -2.0, 2.0)),
        ({"clipnorm": 2.0}, lambda s: s * min(1.0, 2.0 / np.linalg.norm(s))),
        ({"global_clipnorm": 2.0}, lambda s: s * min(1.0, 2.0 / np.linalg.norm(s))),
    ],
)
def test_the_sum_is_clipped_and_not_the_summands(replicas, clips, want):
    """Each summand is within the limit, their sum is not: the two orders differ."""

    def program():
        v, optimizer = distopt.Variable(np.zeros(4, "f4")), SGD(1.0, **clips)
        optimizer.apply_gradients([(np.array([1.5, 0.5, -0.5, 0.0], "f4"), v)])
        return v.numpy()

    total = replicas.size * np.array([1.5, 0.5, -0.5, 0.0])
    for got in replicas.run(program):
        assert np.allclose(got, -want(total), rtol=1e-6)


def test_transformers_see_the_sum_on_every_replica(replicas):
    def program():
        seen = []

        def note(pairs):
            seen.extend(float(g[0]) for g, _ in pairs)
            return [(g * 0.5, v) for g, v in pairs]

        v, optimizer = distopt.Variable([0.0]), SGD(1.0, gradient_transformers=[note], clipvalue=100.0)
        optimizer.apply_gradients([(np.array([programs.rank() + 1.0], "f4"), v)])
        return seen, float(v[0])

    summed = sum(range(1, replicas.size + 1))
    assert replicas.run(program) == [([summed], -summed / 2)] * replicas.size


@programs.with_clips(programs.OPTIMIZERS)
def test_one_pass_and_the_stages_give_the_same_bits(replicas, name, clips):
    """A transformer that changes nothing makes the step go through all stages one by one."""
    fused = replicas.run(lambda: run_with(lambda: programs.make(name, **clips)))
    staged = replicas.run(
        lambda: run_with(lambda: programs.make(name, gradient_transformers=[lambda pairs: pairs], **clips))
    )
    assert programs.equal([*fused, *staged])


@pytest.mark.parametrize("name", programs.each(programs.OPTIMIZERS))
def test_one_pass_and_numpy_updates_give_the_same_bits(replicas, name):
    """An overridden update that calls the inherited one makes the step go through owners."""
    base = getattr(distopt.optimizers, name)

    def own_update(self, grad, var, apply_state=None):
        base._resource_apply_dense(self, grad, var, apply_state)

    Wrapped = type("Wrapped", (base,), {"_resource_apply_dense": own_update})
    fused = replicas.run(lambda: run_with(lambda: base(name="o")))
    wrapped = replicas.run(lambda: run_with(lambda: Wrapped(name="o")))
    assert programs.equal([*fused, *wrapped])
