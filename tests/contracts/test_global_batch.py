"""N replicas on shares of a global batch are one replica on the whole batch."""

import numpy as np
import programs
import pytest

import distopt
from distopt import GradientTape

RTOL = {"float32": 1e-5, "float64": 1e-12}
BATCH, STEPS = 22, 20  # no multiple of 4: shares of 5 and 6 rows


def data(dtype):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(BATCH, 6)).astype(dtype)
    return x, np.tanh(x @ generator.normal(size=(6, 2)).astype(dtype))


def train(make, dtype, steps=STEPS):
    """A network of two layers; the loss is the sum over this replica's rows / the global batch."""
    x, y = data(dtype)
    x, y = programs.share(x), programs.share(y)
    generator = np.random.default_rng(4)
    shapes = [(6, 8), (8,), (8, 2), (2,)]
    layers = [
        distopt.Variable(generator.normal(size=shape).astype(dtype) * 0.5, name=f"w{i}")
        for i, shape in enumerate(shapes)
    ]
    optimizer = make()
    losses = []
    for _ in range(steps):
        with GradientTape() as tape:
            hidden = np.tanh(x @ layers[0] + layers[1])
            loss = np.sum((hidden @ layers[2] + layers[3] - y) ** 2) / np.asarray(BATCH, dtype)
        gradients = tape.gradient(loss, layers)
        optimizer.apply_gradients(zip(gradients, layers))
        losses.append(float(distopt.distribute.get_replica_context().all_reduce("sum", loss)))
    return programs.state(optimizer, layers), losses


CASES = {
    "SGD": lambda: programs.make("SGD", learning_rate=0.1),
    "SGD with momentum": lambda: programs.make("SGD", learning_rate=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda: programs.make("Adam", learning_rate=0.01, epsilon=1e-3),
    "Adam clipped": lambda: programs.make("Adam", learning_rate=0.01, epsilon=1e-3, global_clipnorm=0.5),
}


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, marks=[] if dtype == "float32" or case == "Adam" else [pytest.mark.slow])
        for case in CASES
        for dtype in RTOL
    ],
)
def test_shares_of_a_batch(replicas, case, dtype):
    results = replicas.run(lambda: train(CASES[case], dtype))
    want, losses = programs.alone(lambda: train(CASES[case], dtype))
    assert programs.equal(results)
    got, got_losses = results[0]
    assert programs.close(got, want, RTOL[dtype])
    assert np.allclose(got_losses, losses, RTOL[dtype])
    assert losses[-1] < 0.8 * losses[0]
