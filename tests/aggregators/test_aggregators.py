"""Aggregators: names, configs, weights of examples, Adasum, sparse gradients, state."""

import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt as tf
from distopt import IndexedSlices, Variable, aggregators
from distopt.core.tensor import as_array
from distopt.optimizers import SGD, Adam

SIZES = (1, 2, 4, 5)


def rows(size, shape=(6,), dtype="f4", seed=0):
    return np.random.default_rng(seed).normal(size=(size, *shape)).astype(dtype)


# -- names and configs
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sum", aggregators.Sum),
        ("mean", aggregators.Mean),
        ("weighted_mean", aggregators.WeightedMean),
        ("adasum", aggregators.Adasum),
        ("chain", aggregators.Chain),
    ],
)
def test_names(name, kind):
    assert type(aggregators.get(name)) is kind
    assert aggregators.serialize(aggregators.get(name))["class_name"] == name


def test_none_is_the_sum_and_callables_are_themselves():
    assert isinstance(aggregators.get(None), aggregators.Sum)
    function = lambda pairs: pairs  # noqa: E731
    assert aggregators.get(function) is function


@pytest.mark.parametrize(
    "made",
    [
        aggregators.WeightedMean(3),
        aggregators.chain("mean", aggregators.WeightedMean(2)),
        aggregators.chain("mean", aggregators.chain("sum", "adasum")),
    ],
)
def test_config_round_trip(made):
    config = aggregators.serialize(made)
    assert aggregators.serialize(aggregators.get(config)) == config
    assert str(aggregators.get(config)) == str(made)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"Unknown aggregator: maen. Did you mean 'mean'\?"):
        SGD(gradient_aggregator="maen")
    with pytest.raises(TypeError, match="a function from pairs to pairs; got 3"):
        aggregators.get(3)
    with pytest.raises(TypeError, match="function from pairs"):
        aggregators.get(aggregators.Mean)
    with pytest.raises(ValueError, match="has no registered name"):
        aggregators.serialize(lambda pairs: pairs)
    with pytest.raises(TypeError, match=r"aggregators\.mean\.Mean from the config .*trim"):
        aggregators.get({"class_name": "mean", "config": {"trim": 1}})


def test_a_plugin_that_cannot_be_imported_is_named_with_its_package(tmp_path, monkeypatch):
    metadata = tmp_path / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[distopt.aggregators]\ntypo = distopt.aggregators:Meen\ngone = no_such_module:Mean\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    says = "cannot be imported: package 'my-package' says that it is"
    with pytest.raises(ImportError, match=f"aggregator 'typo' {says} 'distopt.aggregators:Meen' .Attribute"):
        aggregators.get("typo")
    with pytest.raises(ImportError, match=f"aggregator 'gone' {says} 'no_such_module:Mean' .ModuleNotFound"):
        aggregators.get("gone")
    assert aggregators.serialize(aggregators.get("sum"))["class_name"] == "sum"  # comes after "gone"


def test_chain_says_its_parts():
    def halve(pairs):
        return [(g * 0.5, v) for g, v in pairs]

    assert str(aggregators.chain("mean", halve)).startswith("mean -> test_aggregators.")
    v = Variable([0.0])
    SGD(1.0, gradient_aggregator=aggregators.chain("mean", halve)).apply_gradients([([1.0], v)])
    assert v.numpy().tolist() == [-0.5]


# -- weighted means
def step(aggregator, gradient, **arguments):
    v = Variable(np.zeros(gradient.shape, gradient.dtype))
    SGD(1.0, gradient_aggregator=aggregator, **arguments).apply_gradients([(gradient, v)])
    return v.numpy()


@pytest.mark.parametrize(
    "counts", [(3, 5), (32, 32, 32, 7), (1, 0, 4, 2, 9), pytest.param((6,), marks=pytest.mark.slow)]
)
def test_weighted_mean_is_that_over_all_examples(counts):
    """Gradients of a linear loss: the mean over all examples is the mean of their data."""
    data = np.random.default_rng(1).normal(size=(sum(counts), 6))
    shares = np.split(data, np.cumsum(counts)[:-1])

    def program():
        mine = shares[rank()]
        with np.errstate(all="ignore"):
            mean = mine.sum(axis=0) / len(mine)  # NaN where there are none
        return step(aggregators.WeightedMean(len(mine)), mean)

    for moved in on_replicas(len(counts), program):
        assert np.allclose(moved, -data.mean(axis=0), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("counts", [(3, 5), (3, 0, 7, 3), (8, 8, 8, 8)])
@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
def test_weighted_mean_has_the_same_bits_in_one_pass_and_in_stages(counts, dtype):
    gradients = rows(len(counts), (50,), dtype)
    gradients[[i for i, n in enumerate(counts) if n == 0]] = np.nan
    make = lambda: aggregators.WeightedMean(lambda: counts[rank()])  # noqa: E731
    fused = on_replicas(len(counts), lambda: step(make(), gradients[rank()]))
    staged = on_replicas(
        len(counts), lambda: step(make(), gradients[rank()], gradient_transformers=[lambda pairs: pairs])
    )
    assert len({a.tobytes() for a in (*fused, *staged)}) == 1
    assert np.isfinite(fused[0]).all()


def test_equal_counts_are_the_plain_mean_to_the_bit():
    gradients = rows(4, (50,))
    weighted = on_replicas(4, lambda: step(aggregators.WeightedMean(7), gradients[rank()]))
    plain = on_replicas(4, lambda: step("mean", gradients[rank()]))
    assert weighted[0].tobytes() == plain[0].tobytes()


@pytest.mark.parametrize("count", [-1, 1.5])
def test_examples_must_be_a_count(count):
    with pytest.raises(ValueError, match="must be a count"):
        step(aggregators.WeightedMean(count), np.ones(2, "f4"))


# -- Adasum
def adasum(values):
    """The published rule, pair by pair: neighbours first."""
    if len(values) == 1:
        return values[0]
    half = 1 << (len(values) - 1).bit_length() - 1
    a, b = adasum(values[:half]), adasum(values[half:])
    return (1 - a @ b / (2 * (a @ a))) * a + (1 - a @ b / (2 * (b @ b))) * b


@pytest.mark.parametrize("size", SIZES)
def test_adasum_against_the_rule(size):
    gradients = rows(size, (20,), "f8")
    moved = on_replicas(size, lambda: step("adasum", gradients[rank()]))
    assert len({m.tobytes() for m in moved}) == 1
    assert np.allclose(moved[0], -adasum(list(gradients)), rtol=1e-12)


def test_adasum_of_zero_is_the_other():
    gradients = np.array([[0.0, 0.0], [3.0, 4.0]], "f4")
    assert on_replicas(2, lambda: step("adasum", gradients[rank()]))[0].tolist() == [-3.0, -4.0]


def test_adasum_of_complex_gradients():
    gradients = np.array([[1j, 0], [1j, 0]], "c8")
    aggregate = aggregators.Adasum()
    results = on_replicas(2, lambda: aggregate([(gradients[rank()], Variable(np.zeros(2, "c8")))])[0][0])
    assert np.allclose(as_array(results[0]), gradients[0])  # equal: their mean


# -- sparse gradients
def sparse(replica):
    where = [[0, 3, 0], [3], [], [1, 5]][replica % 4]
    values = np.arange(2 * len(where), dtype="f4").reshape(-1, 2) + replica + 1
    return IndexedSlices(values, np.array(where, np.int64), (6, 2))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", ["sum", "mean", "weighted_mean", "adasum"])
@pytest.mark.parametrize("make", [SGD, Adam])
def test_sparse_is_as_dense_where_the_rule_is(size, name, make):
    """SGD moves as with the dense gradient; Adam too from zero state."""

    def run(dense):
        v = Variable(np.zeros((6, 2), "f4"))
        gradient = sparse(rank())
        gradient = gradient.to_dense() if dense else gradient
        make(0.5, gradient_aggregator=name).apply_gradients([(gradient, v)])
        return v.numpy()

    got, want = on_replicas(size, lambda: run(False)), on_replicas(size, lambda: run(True))
    assert len({g.tobytes() for g in got}) == 1
    assert np.allclose(got[0], want[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["sum", "mean", "weighted_mean", "adasum"])
def test_sparse_gradients_stay_sparse(name):
    aggregate = aggregators.get(name)
    v = Variable(np.zeros((6, 2), "f4"))
    results = on_replicas(2, lambda: aggregate([(sparse(rank()), v)])[0][0])
    assert all(isinstance(r, IndexedSlices) and r.dtype == np.float32 for r in results)
    assert set(as_array(results[0].indices).tolist()) == {0, 3}


@pytest.mark.parametrize("name", ["sum", "mean", "weighted_mean", "adasum"])
def test_none_gradients_keep_their_places(name):
    aggregate = aggregators.get(name)
    v, w = Variable([0.0]), Variable([0.0])
    for result in on_replicas(2, lambda: aggregate([(None, v), (np.ones(1, "f4"), w)])):
        assert result[0][0] is None
        assert result[0][1] is v
        assert float(as_array(result[1][0])[0]) == (2.0 if name == "sum" else 1.0)


# -- wrong returns
V, W = Variable([1.0, 2.0], name="v"), Variable([3.0], name="w")
WRONG = {
    "none": (lambda pairs: None, TypeError, "got NoneType"),
    "no pairs": (lambda pairs: [g for g, _ in pairs], TypeError, "not a .gradient, variable. pair"),
    "lost": (lambda pairs: pairs[:1], ValueError, r"w:0 \(0 for 1\)"),
    "twice": (lambda pairs: [*pairs, pairs[0]], ValueError, r"v:0 \(2 for 1\)"),
    "new": (lambda pairs: [*pairs, ([1.0], Variable([0.0], name="x"))], ValueError, r"x:0 \(1 for 0\)"),
    "shape": (lambda pairs: [(np.ones((2, 1), "f4"), v) for _, v in pairs], ValueError, "shape"),
    "dtype": (lambda pairs: [(np.asarray(g, "f8"), v) for g, v in pairs], TypeError, "dtype float64"),
    "none gradient": (lambda pairs: [(None, v) for _, v in pairs], TypeError, "'v:0' is None"),
}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_return_names_the_plugin_and_nothing_is_applied(case, size):
    function, kind, words = WRONG[case]

    def named(pairs):
        return function(pairs)

    named.__qualname__ = f"plugin_{size}"

    def program():
        v, w = Variable([1.0, 2.0], name="v"), Variable([3.0], name="w")
        optimizer = Adam(1.0, gradient_aggregator=named)
        with pytest.raises(kind, match=words) as error:
            optimizer.apply_gradients([(np.ones(2, "f4"), v), (np.ones(1, "f4"), w)])
        assert f"aggregator test_aggregators.plugin_{size} returned a wrong result" in str(error.value)
        slots = [float(np.sum(optimizer.get_slot(x, s))) for x in (v, w) for s in ("m", "v")]
        return v.numpy().tolist(), w.numpy().tolist(), int(optimizer.iterations), slots

    assert on_replicas(size, program) == [([1.0, 2.0], [3.0], 0, [0.0] * 4)] * size


def test_a_chain_names_the_part_that_returns_nothing():
    def part(pairs):
        return None

    with pytest.raises(
        TypeError, match=r"aggregator test_aggregators\..*part, part of a chain, returned NoneType"
    ):
        step(aggregators.chain("mean", part), np.ones(2, "f4"))


def test_a_plugin_that_raises_stops_all_replicas():
    def program():
        def plugin(pairs):
            if rank() == 1:
                raise KeyError("a plugin's own error")
            return pairs

        v = Variable([1.0])
        with pytest.raises((KeyError, tf.errors.ReplicaFailed), match="a plugin's own error"):
            SGD(1.0, gradient_aggregator=plugin).apply_gradients([(np.ones(1, "f4"), v)])
        return v.numpy().tolist()

    assert on_replicas(2, program) == [[1.0]] * 2


# -- state
class Smoothed(aggregators.Aggregator):
    """The running mean over steps of the mean over replicas."""

    def __init__(self, rate=0.5):
        self.rate = rate
        self.kept, self.next = {}, {}

    def build(self, variables):
        for v in variables:
            if id(v) not in self.kept:
                self.kept[id(v)] = Variable(np.zeros(v.shape, v.dtype), name=f"{v.name[:-2]}/smoothed")

    @property
    def weights(self):
        return list(self.kept.values())

    def __call__(self, grads_and_vars):
        result = []
        for g, v in aggregators.Mean()(grads_and_vars):
            self.next[id(v)] = as_array(self.kept[id(v)] * np.float32(self.rate) + g)
            result.append((self.next[id(v)], v))
        return result

    def finish_step(self):
        for key, value in self.next.items():
            self.kept[key].assign(value)

    def get_config(self):
        return {"rate": self.rate}


def smoothed_steps(optimizer, variables, count):
    for k in range(count):
        g = np.full(2, rank() + k, "f4")
        optimizer.apply_gradients([(g, variables[0]), (g[:1], variables[1])])


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: aggregators.chain("mean", a)])
def test_state_follows_the_optimizers_own_weights(wrap):
    v, w = Variable([0.0, 0.0], name="v"), Variable([0.0], name="w")
    optimizer = SGD(1.0, momentum=0.5, gradient_aggregator=wrap(Smoothed()))
    assert optimizer.weights == []
    smoothed_steps(optimizer, (v, w), 2)
    names = [x.name for x in optimizer.weights]
    assert names == ["SGD/iter:0", "SGD/v/momentum:0", "SGD/w/momentum:0", "v/smoothed:0", "w/smoothed:0"]
    saved = optimizer.get_weights()
    assert saved[3].tolist() == [1.0, 1.0]
    state = [v.numpy(), w.numpy()]
    smoothed_steps(optimizer, (v, w), 2)
    went = [v.numpy(), w.numpy(), *optimizer.get_weights()]

    again = SGD(1.0, momentum=0.5, gradient_aggregator=wrap(Smoothed()))
    smoothed_steps(again, (v, w), 1)
    again.set_weights(saved)
    v.assign(state[0])
    w.assign(state[1])
    smoothed_steps(again, (v, w), 2)
    for a, b in zip([v.numpy(), w.numpy(), *again.get_weights()], went, strict=True):
        assert np.array_equal(a, b)


def test_state_moves_once_a_step_where_replicas_share_the_optimizer():
    def own():
        v = Variable([0.0, 0.0]), Variable([0.0])
        optimizer = SGD(1.0, gradient_aggregator=Smoothed())
        smoothed_steps(optimizer, v, 3)
        return [x.numpy().tolist() for x in (*v, *optimizer.weights)]

    shared = Variable([0.0, 0.0]), Variable([0.0])
    optimizer = SGD(1.0, gradient_aggregator=Smoothed())
    on_replicas(4, lambda: smoothed_steps(optimizer, shared, 3))
    assert on_replicas(4, own)[0] == [x.numpy().tolist() for x in (*shared, *optimizer.weights)]


def test_a_refused_step_leaves_the_state():
    v = Variable([0.0, 0.0])
    aggregator = Smoothed()

    def lose(pairs):
        return []

    optimizer = SGD(1.0, gradient_aggregator=aggregators.chain(aggregator, lose))
    with pytest.raises(ValueError, match="exactly once"):
        optimizer.apply_gradients([(np.ones(2, "f4"), v)])
    assert aggregator.weights[0].numpy().tolist() == [0.0, 0.0]


def test_state_rests_without_aggregation():
    v = Variable([0.0, 0.0])
    optimizer = SGD(1.0, gradient_aggregator=Smoothed())
    optimizer.apply_gradients([(np.ones(2, "f4"), v)])
    optimizer.apply_gradients([(np.ones(2, "f4"), v)], experimental_aggregate_gradients=False)
    assert optimizer.weights[-1].numpy().tolist() == [1.0, 1.0]


def test_a_class_in_the_place_of_an_aggregator_is_told_to_be_made():
    with pytest.raises(TypeError, match=r"got .*Sum.*: create an instance, Sum\(\)"):
        SGD(gradient_aggregator=aggregators.Sum)
