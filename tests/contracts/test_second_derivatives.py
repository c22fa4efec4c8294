"""A gradient penalty through batch normalization whose statistics are those of all replicas."""

import numpy as np
import programs
import pytest

from distopt.autodiff import GradientTape
from distopt.core import Variable
from distopt.core.tensor import as_array
from distopt.distribute import get_replica_context
from distopt.keras.layers import BatchNormalization

RNG = np.random.default_rng(8)
X, C, V = RNG.normal(size=(3, 7, 3))  # no multiple of 2 or 4: shares differ in length


def penalty(x):
    """Each replica's part of sum(d sum(bn(x) * C) / dx * V), and its gradient by x and gamma."""
    layer = BatchNormalization(synchronized=True, dtype="float64", gamma_initializer="ones")
    x, c, v = Variable(programs.share(x)), programs.share(C), programs.share(V)
    with GradientTape() as outer:
        with GradientTape() as inner:
            value = np.sum(np.sin(layer(x, training=True)) * c)
        along = np.sum(inner.gradient(value, x) * v)
    of_x, of_gamma = outer.gradient(along, [x, layer.gamma])
    context = get_replica_context()
    total, of_gamma = context.all_reduce("sum", [along, of_gamma])
    return float(total), as_array(context.all_gather(of_x, axis=0)), as_array(of_gamma)


def test_it_is_that_of_one_replica_with_all_examples(replicas):
    _, of_x, of_gamma = programs.alone(lambda: penalty(X))
    for _, x, gamma in replicas.run(lambda: penalty(X)):
        np.testing.assert_allclose(x, of_x, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(gamma, of_gamma, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("place", [(0, 0), (3, 1), (6, 2)])
def test_it_is_what_differences_say(replicas, place):
    ends = []
    for step in (1e-5, -1e-5):
        moved = X.copy()
        moved[place] += step
        ends.append(replicas.run(lambda moved=moved: penalty(moved))[0][0])
    for _, of_x, _ in replicas.run(lambda: penalty(X)):
        assert of_x[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8)
