"""Pairs, losses and states that do not fit: refused, and nothing is changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import MISUSE, attempt, fuzz, state
from strategies import arrays, floats, integers, rubbish, shapes

from distopt import IndexedSlices, Tensor, Variable, optimizers

#: A sparse gradient for a variable with a constraint, a call in the wrong context.
STEP = (*MISUSE, RuntimeError)
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.1, clipnorm=1.0),
    "ftrl": lambda: optimizers.Ftrl(0.1, clipvalue=1.0),
    "nadam": lambda: optimizers.Nadam(0.1),
    "rmsprop": lambda: optimizers.RMSprop(0.1, centered=True, clipnorm=1.0),
    "mean": lambda: optimizers.SGD(0.1, gradient_aggregator="mean"),
    "transformed": lambda: optimizers.Adagrad(0.1, gradient_transformers=[lambda pairs: pairs]),
}


def variables():
    return [
        Variable(np.arange(6, dtype=np.float32).reshape(3, 2), name="matrix"),
        Variable(np.arange(3, dtype=np.float64), name="row", constraint=lambda w: w * (w >= 0)),
        Variable(np.float32(1), name="scalar"),
        Variable([1, 2], name="integers"),
        Variable(np.zeros((0, 2), np.float32), name="empty"),
    ]


float_arrays = arrays(dtype=st.sampled_from(["f4", "f8", "f2"]), shape=st.one_of(shapes, st.just((3, 2))))
rows = st.sampled_from([(1, 2), (2, 2), (3, 2), (3,), (0, 2), (2, 3)])
indices = st.one_of(
    st.lists(st.integers(-4, 4), max_size=3),
    st.lists(st.integers(-4, 4), max_size=3).map(lambda found: np.array(found, np.int64)),
    st.lists(floats, max_size=3),
    st.lists(integers, max_size=2),
    st.sampled_from([np.array([[0]]), np.uint8([0, 1]), np.int64(1), np.array([True, False, True])]),
    rubbish,
)
sparse = st.builds(
    IndexedSlices, st.one_of(arrays(shape=rows, dtype=st.sampled_from(["f4", "f8", "O"])), rubbish), indices
)
gradients = st.one_of(
    float_arrays,
    float_arrays.map(Tensor),
    sparse,
    st.none(),
    st.lists(floats, max_size=3),
    st.just("self"),
    rubbish,
)


@st.composite
def wrong_pairs(draw, known):
    """Pairs of which some fit, some do not, and some are none."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        variable = draw(st.sampled_from(known))
        gradient = draw(st.one_of(st.just("fits"), gradients))
        if isinstance(gradient, str) and gradient == "fits":
            gradient = np.ones_like(variable.numpy())
        elif isinstance(gradient, str) and gradient == "self":
            gradient = variable
        pair = draw(st.sampled_from(["tuple", "list", "variable", "three", "rubbish"]))
        if pair in ("tuple", "list"):
            found.append((gradient, variable) if pair == "tuple" else [gradient, variable])
        elif pair == "variable":
            found.append((gradient, draw(st.one_of(st.sampled_from(known), rubbish))))
        else:
            found.append((gradient, variable, 1) if pair == "three" else draw(rubbish))
    return draw(st.sampled_from([found, tuple(found), iter(found)]))


@pytest.mark.parametrize("kind", OPTIMIZERS)
@fuzz(50)
@given(data=st.data())
def test_apply_gradients(kind, data):
    optimizer, known = OPTIMIZERS[kind](), variables()
    good = [(np.ones_like(v.numpy()), v) for v in known if v.dtype.kind == "f"]
    if data.draw(st.booleans()):
        optimizer.apply_gradients(good)
    _ = optimizer.iterations, optimizer.learning_rate
    pairs = data.draw(st.one_of(wrong_pairs(known), rubbish))
    before = state(optimizer, *known)
    found = attempt(lambda: optimizer.apply_gradients(pairs), *STEP)
    if isinstance(found, Exception):
        assert untouched(before, state(optimizer, *known))
    optimizer.apply_gradients(good)


def untouched(before, after):
    """Nothing differs, but for slots that were made meanwhile, which hold their first values."""
    (weights, hyper), *rest = before
    return (weights, hyper) == (after[0][0][: len(weights)], after[0][1]) and rest == after[1:]


@fuzz(60)
@given(data=st.data())
def test_minimize(data):
    optimizer, known = optimizers.Adam(0.1), variables()
    optimizer.apply_gradients([(np.ones_like(known[0].numpy()), known[0])])
    value = data.draw(rubbish)
    loss = data.draw(
        st.sampled_from([lambda: (known[0] ** 2).sum(), lambda: value, value, lambda: known[0] * 0])
    )
    var_list = data.draw(st.one_of(st.just(known[0]), st.just(known), rubbish))
    extra = data.draw(
        st.one_of(st.just({}), st.dictionaries(st.sampled_from(["grad_loss", "tape"]), rubbish))
    )
    before = state(optimizer, *known)
    found = attempt(lambda: optimizer.minimize(loss, var_list, **extra), *STEP)
    if isinstance(found, Exception):
        assert untouched(before, state(optimizer, *known))


@pytest.mark.parametrize("kind", OPTIMIZERS)
@fuzz(20)
@given(data=st.data())
def test_set_weights(kind, data):
    optimizer, known = OPTIMIZERS[kind](), variables()
    optimizer.apply_gradients([(np.ones_like(known[0].numpy()), known[0])])
    weights = optimizer.get_weights()
    place = data.draw(st.integers(0, len(weights) - 1))
    weights[place] = data.draw(rubbish)
    weights = data.draw(st.sampled_from([weights, weights[:place], tuple(weights), data.draw(rubbish)]))
    before = state(optimizer)
    if isinstance(attempt(lambda: optimizer.set_weights(weights), *MISUSE), Exception):
        assert before == state(optimizer)


@pytest.mark.parametrize("name", ["learning_rate", "lr", "momentum", "clipnorm", "iterations"])
@fuzz(15)
@given(value=rubbish, started=st.booleans())
def test_hyperparameters(name, value, started):
    optimizer, variable = optimizers.SGD(0.1, momentum=0.9), Variable([1.0, 2.0])
    if started:
        optimizer.apply_gradients([([1.0, 1.0], variable)])
    attempt(lambda: setattr(optimizer, name, value), *STEP)
    before = state(variable)
    found = attempt(lambda: optimizer.apply_gradients([([1.0, 1.0], variable)]), *STEP)
    if isinstance(found, Exception):
        assert before == state(variable)
