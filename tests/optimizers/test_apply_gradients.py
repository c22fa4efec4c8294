"""One call of apply_gradients: what it takes, what it refuses, and in which order the stages come."""

import logging

import numpy as np
import pytest

import distopt
from distopt import IndexedSlices, Variable
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.optimizers import SGD, Adam, Nadam


def ones(*shape, dtype="f4"):
    return np.ones(shape, dtype)


def rows(values, indices):
    return IndexedSlices(np.array(values, "f4"), np.array(indices), None)


@pytest.fixture
def v():
    return Variable([1.0, 2.0], name="v")


@pytest.fixture
def table():
    return Variable(ones(3, 2), name="table")


@pytest.mark.parametrize(
    "gradient",
    [[1.0, 1.0], (1, 1), np.array([1, 1], "f4"), distopt.constant([1.0, 1.0]), Variable([1.0, 1.0])],
)
def test_gradients_may_be_lists_arrays_tensors_and_variables(v, gradient):
    SGD(0.5).apply_gradients([(gradient, v)])
    assert v.numpy().tolist() == [0.5, 1.5]


def test_a_gradient_that_is_an_updated_variable_counts_as_it_was(v):
    SGD(1.0).apply_gradients([(v, v), (v, v)])
    assert v.numpy().tolist() == [-1.0, -2.0]


def test_lists_in_a_sparse_gradient(table):
    SGD(0.5).apply_gradients([(IndexedSlices([[1.0, 2.0]], [2]), table)])
    assert table.numpy().tolist() == [[1.0, 1.0], [1.0, 1.0], [0.5, 0.0]]


def test_number_as_gradient_of_a_scalar():
    v = Variable(1.0)
    SGD(0.5).apply_gradients([(2.0, v)])
    assert float(v) == 0.0


def test_result_is_the_number_of_steps(v):
    opt = SGD()
    opt.apply_gradients([(ones(2), v)])
    result = opt.apply_gradients(zip([ones(2)], [v]))
    assert int(result) == 2
    assert result.dtype == np.int64
    assert result.run() is None
    assert repr(result) == "<tf.Variable 'UnreadVariable' shape=() dtype=int64, numpy=2>"


def test_empty_list_makes_the_weights_and_no_step():
    opt = Nadam()
    assert opt.apply_gradients([]) is None
    assert [w.name for w in opt.weights] == ["Nadam/iter:0"]
    assert int(opt.iterations) == 0


def test_none_gradients_are_left_out_with_one_warning(v, table, caplog):
    opt = Adam(0.1)
    other = Variable(1.0, name="other")
    with caplog.at_level(logging.WARNING, "distopt"):
        opt.apply_gradients([(None, table), (ones(2), v), (None, other)])
    assert len(caplog.records) == 1
    assert "table:0" in caplog.text
    assert "other:0" in caplog.text
    assert "'v:0'" not in caplog.text
    assert (table.numpy() == 1).all()
    assert len(opt.weights) == 3
    # Slots of a variable that gets its first gradient later stand at the end.
    opt.apply_gradients([(ones(3, 2), table), (ones(2), v)])
    assert [w.name for w in opt.weights] == [
        "Adam/iter:0",
        "Adam/v/m:0",
        "Adam/v/v:0",
        "Adam/table/m:0",
        "Adam/table/v:0",
    ]


def test_a_variable_twice_is_updated_twice_by_the_coefficients_of_one_step():
    twice, reference = Variable([1.0]), Variable([1.0])
    opt, ref = Adam(0.1), Adam(0.1)
    opt.apply_gradients([(ones(1), twice), (2 * ones(1), twice)])
    ref.apply_gradients([(ones(1), reference)])
    ref.iterations.assign(0)
    ref.apply_gradients([(2 * ones(1), reference)])
    assert twice.numpy() == reference.numpy()
    assert int(opt.iterations) == 1


WRONG = [
    (lambda v, t: 5, TypeError, "pairs"),
    (lambda v, t: None, TypeError, "pairs"),
    (lambda v, t: [1, 2], TypeError, "element 0"),
    (lambda v, t: [(ones(2), v), "ab"], TypeError, "element 1"),
    (lambda v, t: [(ones(2), v, 1)], ValueError, "3 items"),
    (lambda v, t: [(ones(2),)], ValueError, "1 items"),
    (lambda v, t: [(ones(2), ones(2))], TypeError, "instead of a variable"),
    (lambda v, t: [(ones(2), distopt.constant([1.0, 2.0]))], TypeError, "instead of a variable"),
    (lambda v, t: [(None, v), (None, t)], ValueError, "No gradients provided for any variable.*v:0.*table:0"),
    (lambda v, t: [(ones(2), v), (ones(2), t)], ValueError, "'table:0' has shape"),
    (lambda v, t: [(ones(2), v), (ones(1, 2), t)], ValueError, "not broadcast"),
    (lambda v, t: [(ones(2), v), (ones(3, 2, dtype="f8"), t)], TypeError, "'table:0' has dtype float64"),
    (lambda v, t: [(ones(2), v), (ones(3, 2, dtype="i4"), t)], TypeError, "'table:0' has dtype int32"),
    (lambda v, t: [(ones(2), v), (1, Variable(1, name="count"))], TypeError, "'count:0' has dtype int32"),
    (lambda v, t: [(ones(2), v), (rows([[1, 1]], [3]), t)], ValueError, "'table:0' has index 3"),
    (lambda v, t: [(ones(2), v), (rows([[1, 1]], [-1]), t)], ValueError, "'table:0' has index -1"),
    (lambda v, t: [(ones(2), v), (rows([[1, 1]], [1.0]), t)], TypeError, "must be integers"),
    (lambda v, t: [(ones(2), v), (rows([[1, 1]], [1, 2]), t)], ValueError, "one row"),
    (lambda v, t: [(ones(2), v), (rows([[1]], [1]), t)], ValueError, "one row"),
    (lambda v, t: [(ones(2), v), (rows([1], [0]), Variable(1.0))], ValueError, "one row"),
    (
        lambda v, t: [(ones(2), v), (IndexedSlices(ones(1, 2, dtype="f8"), np.array([0])), t)],
        TypeError,
        "values of dtype float64",
    ),
    (
        lambda v, t: [(ones(2), v), (rows([1], [0]), Variable([1.0], name="c", constraint=np.abs))],
        RuntimeError,
        "Cannot use a constraint function on a sparse variable: 'c:0'",
    ),
]


@pytest.mark.parametrize(("pairs", "error", "text"), WRONG)
@pytest.mark.parametrize("fresh", [True, False])
def test_wrong_pairs_change_nothing(v, table, pairs, error, text, fresh):
    opt = Adam(0.1)
    if not fresh:
        opt.apply_gradients([(ones(2), v), (ones(3, 2), table)])
    before = [x.numpy() for x in (v, table, *opt.weights)]
    with pytest.raises(error, match=text):
        opt.apply_gradients(pairs(v, table))
    after = [x.numpy() for x in (v, table, *opt.weights)]
    assert len(before) == len(after)
    assert all((a == b).all() for a, b in zip(before, after))


@pytest.mark.parametrize(
    "transform",
    [
        lambda pairs: [(g, v) for g, v in pairs if "v" in v.name] + [(ones(1), v) for _, v in pairs],
        lambda pairs: [(g.numpy().astype("f8"), v) for g, v in pairs],
        lambda pairs: None,
        lambda pairs: 1 / 0,
    ],
)
@pytest.mark.parametrize("place", ["gradient_transformers", "gradient_aggregator"])
def test_wrong_results_of_transformers_and_aggregators_change_nothing(v, table, transform, place):
    opt = Nadam(0.1)
    opt.apply_gradients([(ones(2), v), (ones(3, 2), table)])
    before = [x.numpy() for x in (v, table, *opt.weights)]
    setattr(opt, place, [transform] if place == "gradient_transformers" else transform)
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        opt.apply_gradients([(ones(2), v), (ones(3, 2), table)])
    assert all((a == x.numpy()).all() for a, x in zip(before, (v, table, *opt.weights)))


@pytest.mark.parametrize(
    "change", [lambda p: p[1:], lambda p: [*p, p[0]], lambda p: [(p[0][0], Variable([1.0, 1.0]))]]
)
def test_an_aggregator_returns_every_variable_once(v, table, change):
    opt = SGD(0.1, gradient_aggregator=change)
    with pytest.raises(ValueError, match="the result must contain every variable"):
        opt.apply_gradients([(ones(2), v), (ones(3, 2), table)])
    assert v.numpy().tolist() == [1.0, 2.0]


def test_transformers_may_drop_pairs(v, table):
    opt = SGD(0.5, gradient_transformers=[lambda pairs: pairs[:1]])
    opt.apply_gradients([(ones(2), v), (ones(3, 2), table)])
    assert v.numpy().tolist() == [0.5, 1.5]
    assert (table.numpy() == 1).all()
    assert int(opt.iterations) == 1


def test_order_of_the_stages_and_what_they_get(v):
    seen = []

    def note(name):
        def stage(pairs):
            seen.append((name, type(pairs), float(pairs[0][0][0])))
            return [(g + 1, v) for g, v in pairs]

        return stage

    class Noting(SGD):
        def _transform_unaggregated_gradients(self, grads_and_vars):
            return note("unaggregated")(grads_and_vars)

    opt = Noting(
        1.0,
        gradient_aggregator=note("aggregator"),
        gradient_transformers=[note("first"), note("second")],
        clipvalue=2.5,
    )
    opt.apply_gradients([(ones(2), v)])
    assert seen == [
        ("unaggregated", tuple, 1.0),
        ("aggregator", tuple, 2.0),
        ("first", list, 2.5),
        ("second", list, 3.5),
    ]
    assert v.numpy().tolist() == [1 - 4.5, 2 - 4.5]
    del seen[:]
    opt.apply_gradients([(ones(2), v)], experimental_aggregate_gradients=False)
    assert [name for name, _, _ in seen] == ["first", "second"]


def test_clips_come_before_transformers(v):
    double = lambda pairs: [(g * 2, v) for g, v in pairs]  # noqa: E731
    opt = SGD(1.0, clipvalue=0.5, clipnorm=10.0, gradient_transformers=[double])
    opt.apply_gradients([(ones(2), v)])
    assert v.numpy().tolist() == [0.0, 1.0]


def test_constraint_is_applied_after_the_update():
    v = Variable([1.0, 2.0], constraint=lambda w: np.maximum(w, 1.0))
    SGD(1.0).apply_gradients([(ones(2), v)])
    assert v.numpy().tolist() == [1.0, 1.0]


def test_cross_replica_context_is_refused(v):
    opt = SGD()
    strategy = VirtualStrategy(2)
    with strategy.scope():
        with pytest.raises(RuntimeError, match=r"cross-replica context.*Strategy\.run"):
            opt.apply_gradients([(ones(2), v)])
        assert int(opt.iterations) == 0
        assert len(opt.weights) == 1
        assert opt.apply_gradients([]) is None
    assert v.numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("make", [lambda: ones(2) * (get_replica_context().replica_id_in_sync_group + 1)])
def test_gradients_are_summed_over_replicas(make):
    def program():
        w = Variable([0.0, 0.0])
        opt = SGD(1.0)
        opt.apply_gradients([(make(), w)])
        return w.numpy().tolist(), int(opt.iterations)

    assert VirtualStrategy(3).run(program) == ([-6.0, -6.0], 1)


def test_own_aggregation_in_place_of_the_default():
    def program():
        context = get_replica_context()
        w = Variable([0.0])
        opt = SGD(1.0)
        (g,) = context.all_reduce("mean", [ones(1) * context.replica_id_in_sync_group])
        opt.apply_gradients([(g, w)], experimental_aggregate_gradients=False)
        return w.numpy().tolist()

    assert VirtualStrategy(2).run(program) == [-0.5]
