"""What holds for all optimizers whatever the numbers: checked on random ones."""

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distopt import IndexedSlices, Variable, optimizers
from distopt.optimizers import schedules

quick = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

KINDS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "sgd-momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "sgd-nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, decay=0.1),
    "rmsprop": lambda: optimizers.RMSprop(0.1),
    "rmsprop-centered": lambda: optimizers.RMSprop(0.1, centered=True),
    "rmsprop-momentum": lambda: optimizers.RMSprop(0.1, momentum=0.5, clipvalue=1.0),
    "rmsprop-all": lambda: optimizers.RMSprop(0.1, momentum=0.5, centered=True),
    "adam": lambda: optimizers.Adam(0.1, global_clipnorm=3.0),
    "adam-schedule": lambda: optimizers.Adam(schedules.ExponentialDecay(0.1, 2, 0.5)),
    "amsgrad": lambda: optimizers.Adam(0.1, amsgrad=True, clipnorm=2.0),
    "adamw": lambda: optimizers.AdamW(0.1, 0.5),
    "adamax": lambda: optimizers.Adamax(0.1),
    "lion": lambda: optimizers.Lion(0.1),
    "radam": lambda: optimizers.RAdam(0.1),
    "adabelief": lambda: optimizers.AdaBelief(0.1),
    "nadam": lambda: optimizers.Nadam(0.1, schedule_decay=0.01),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "lamb": lambda: optimizers.LAMB(0.1, clipnorm=2.0),
    "lars": lambda: optimizers.LARS(0.1, weight_decay=0.1),
    "ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.1, beta=0.1),
    "ftrl-power": lambda: optimizers.Ftrl(0.1, learning_rate_power=-0.7, l2_regularization_strength=0.1),
}
every_kind = pytest.mark.parametrize("kind", KINDS)

#: What a row without gradient keeps: its weights, and its slots (spec: "Sparse gradients in one table").
SLOTS_DECAY = {"rmsprop", "rmsprop-centered", "nadam"}
#: What a step needs norms of whole variables for, which cannot be trained in parts.
NORMS = {"lamb", "lars"}
ROWS_MOVE = {"adam", "adam-schedule", "amsgrad", "adamw", "lion", "radam", "adabelief", *NORMS}

HEIGHT, WIDTH = 5, 3


def numbers(dtype):
    return hnp.arrays(dtype, (HEIGHT, WIDTH), elements=st.floats(-4, 4, width=16))


#: Whose sums are exact, in whatever order.
eighths = st.integers(-32, 32).map(lambda n: n / 8)
sparse_steps = st.lists(st.lists(st.integers(0, HEIGHT - 1), max_size=7), min_size=1, max_size=3)


def bits(variable, opt):
    return [variable.numpy().tobytes(), *(w.numpy().tobytes() for w in opt.weights)]


def run(opt, variable, gradients):
    for g in gradients:
        opt.apply_gradients([(g, variable)])
    return opt


@every_kind
@quick
@given(start=numbers("f4"), data=st.data(), indices=sparse_steps)
def test_sparse_against_dense_with_zeros(kind, start, data, indices):
    sparse, dense = Variable(start, name="v"), Variable(start, name="v")
    a, b = KINDS[kind](), KINDS[kind]()
    a.clipvalue = a.clipnorm = a.global_clipnorm = b.clipvalue = b.clipnorm = b.global_clipnorm = None
    for rows in indices:
        before = [sparse.numpy(), *(w.numpy() for w in a.weights[1:])]
        values = data.draw(hnp.arrays("f4", (len(rows), WIDTH), elements=eighths))
        slices = IndexedSlices(values, np.array(rows, "i8"), (HEIGHT, WIDTH))
        a.apply_gradients([(slices, sparse)])
        b.apply_gradients([(slices.to_dense(), dense)])
        untouched = np.setdiff1d(np.arange(HEIGHT), rows)
        if kind not in ROWS_MOVE:
            assert (sparse.numpy()[untouched] == before[0][untouched]).all()
        if kind not in ROWS_MOVE | SLOTS_DECAY:
            for was, slot in zip(before[1:], a.weights[1:]):
                assert (slot.numpy()[untouched] == was[untouched]).all()
        if kind in ROWS_MOVE:
            assert bits(sparse, a) == bits(dense, b)
    always = set(range(HEIGHT)).intersection(*indices)
    rows = sorted(always)
    # A row that had a gradient in every step is where dense gradients put it.
    assert (sparse.numpy()[rows] == dense.numpy()[rows]).all()


@every_kind
@quick
@given(start=numbers("f4"), gradient=numbers("f4"), order=st.permutations(range(HEIGHT)))
def test_rows_may_come_in_any_order_and_in_parts(kind, start, gradient, order):
    a, b = Variable(start), Variable(start)
    first, second = KINDS[kind](), KINDS[kind]()
    for opt in (first, second):
        opt.clipvalue = opt.clipnorm = opt.global_clipnorm = None
    halves = gradient[list(order)] / 2
    twice = np.concatenate([halves, halves])
    run(first, a, [IndexedSlices(twice, np.array([*order, *order], "i4"))] * 2)
    run(second, b, [IndexedSlices(gradient, np.arange(HEIGHT))] * 2)
    # Equal, but for the sign of a zero that was added to a zero.
    assert np.array_equal(a.numpy(), b.numpy())
    assert all(map(np.array_equal, first.get_weights(), second.get_weights()))


@every_kind
@pytest.mark.parametrize("dtype", ["f2", "f4", pytest.param("f8", marks=pytest.mark.slow)])
@quick
@given(data=st.data(), before=st.integers(0, 2))
def test_config_and_weights_continue_bit_for_bit(kind, dtype, data, before):
    elements = st.floats(-4, 4, width=16)
    start, *gradients = data.draw(
        st.lists(hnp.arrays(dtype, (2, 3), elements=elements), min_size=before + 3, max_size=before + 3)
    )
    with np.errstate(all="ignore"):
        v = Variable(start, name="v")
        opt = run(KINDS[kind](), v, gradients[:before])
        if before == 0:
            opt._create_all_weights([v])
        twin = Variable(v.numpy(), name="v")
        again = type(opt).from_config(opt.get_config())
        again._create_all_weights([twin])
        again.set_weights(opt.get_weights())
        run(opt, v, gradients[before:])
        run(again, twin, gradients[before:])
    assert bits(v, opt) == bits(twin, again)


@every_kind
@quick
@given(start=numbers("f4"), gradient=numbers("f4"))
def test_setting_ones_own_weights_changes_nothing(kind, start, gradient):
    v = Variable(start)
    opt = run(KINDS[kind](), v, [gradient])
    before = bits(v, opt)
    opt.set_weights(opt.get_weights())
    assert bits(v, opt) == before


@every_kind
@quick
@given(start=numbers("f4"), gradient=numbers("f4"), data=st.data())
def test_a_failed_call_leaves_everything_untouched(kind, start, gradient, data):
    good, bad = Variable(start, name="good"), Variable(start, name="bad")
    opt = KINDS[kind]()
    opt.apply_gradients([(gradient, good), (gradient, bad)])
    before = [*bits(good, opt), *bits(bad, opt)]
    wrong = data.draw(
        st.sampled_from(
            [
                gradient[1:],
                gradient.astype("f8"),
                gradient.astype("i4"),
                IndexedSlices(gradient, np.arange(HEIGHT) + 1),
                IndexedSlices(gradient, np.arange(HEIGHT) - 1),
                IndexedSlices(gradient[:, 1:], np.arange(HEIGHT)),
                "text",
            ]
        )
    )
    with pytest.raises((ValueError, TypeError)):
        opt.apply_gradients([(gradient, good), (wrong, bad)])
    assert [*bits(good, opt), *bits(bad, opt)] == before


@pytest.mark.parametrize("kind", sorted(set(KINDS) - NORMS))
def test_steps_do_not_depend_on_what_else_is_trained(kind):
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=(2, 40, 7)).astype("f4")
    whole = Variable(start)
    parts = [Variable(start[i : i + 13]) for i in range(0, 40, 13)]
    a, b = KINDS[kind](), KINDS[kind]()
    for opt in (a, b):
        opt.clipnorm = opt.global_clipnorm = None
    for _ in range(3):
        a.apply_gradients([(gradient, whole)])
        b.apply_gradients([(gradient[13 * i : 13 * i + 13], v) for i, v in enumerate(parts)])
    assert whole.numpy().tobytes() == np.concatenate([v.numpy() for v in parts]).tobytes()


@every_kind
def test_copies_go_on_alike(kind):
    v, opt = Variable([1.0, 2.0]), KINDS[kind]()
    run(opt, v, [np.ones(2, "f4")])
    twin, again = copy.deepcopy((v, opt))
    run(opt, v, [np.ones(2, "f4")])
    run(again, twin, [np.ones(2, "f4")])
    assert bits(v, opt) == bits(twin, again)
