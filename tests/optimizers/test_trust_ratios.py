"""LAMB and LARS: norms of whole variables, whatever brings the gradients; Keras's numbers are recorded."""

import copy
import sys

import numpy as np
import pytest
from replicated import on_replicas, rank

from distopt import IndexedSlices, Variable
from distopt.optimizers import LAMB, LARS, Lamb, deserialize, serialize

partition = sys.modules["distopt.collectives.partition"]
LARGE = 10_001  # three pieces, which several replicas share
TOLERANCES = {"f4": 1e-5, "f8": 1e-10}


def norm(x):
    return np.sqrt((x * x).sum())


def lars(w, gradients, lr=0.5, decay=0.0, trust=0.001, eps=0.0, momentum=0.9, nesterov=False, adapts=True):
    """The chain of ``optax.lars``, in double precision."""
    trace = np.zeros_like(w)
    for g in gradients:
        u = g + decay * w
        r = trust * norm(w) / (norm(u) + eps) if adapts and norm(w) > 0 and norm(u) > 0 else 1.0
        change = -lr * r * u
        trace = change + momentum * trace
        w = w + (change + momentum * trace if nesterov else trace)
    return w


def lamb(w, gradients, lr=0.5, adapts=True):
    """Keras's, without weight decay, in double precision."""
    m = v = np.zeros_like(w)
    for s, g in enumerate(gradients, 1):
        m, v = m + (g - m) * 0.125, v + (g * g - v) * 0.25
        u = m / (1 - 0.875**s) / (np.sqrt(v / (1 - 0.75**s)) + 1e-7)
        w = w - lr * (norm(w) / norm(u) if adapts and norm(w) > 0 and norm(u) > 0 else 1.0) * u
    return w


def make_lamb(**options):
    return LAMB(0.5, beta_1=0.875, beta_2=0.75, **options)


def numbers(dtype, steps, size=LARGE):
    generator = np.random.default_rng(1)
    return generator.normal(size=size).astype(dtype), generator.normal(size=(steps, size)).astype(dtype)


def assert_close(found, want, tolerance):
    assert np.abs(found - want).max() <= tolerance * np.abs(want).max()


LARS_CASES = [
    ({"trust_coefficient": 0.125}, {"trust": 0.125}),
    (
        {"weight_decay": 0.25, "trust_coefficient": 0.5, "epsilon": 0.5, "nesterov": True},
        {"decay": 0.25, "trust": 0.5, "eps": 0.5, "nesterov": True},
    ),
]


@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("options", "numbers_of"), LARS_CASES, ids=["plain", "decay and nesterov"])
def test_thirty_steps_of_lars(options, numbers_of, dtype):
    start, gradients = numbers(dtype, 30)
    real = np.dtype(dtype).type
    options = {key: real(x) if isinstance(x, float) else x for key, x in options.items()}

    def program():
        variable, optimizer = Variable(start), LARS(real(0.5), momentum=real(0.9), **options)
        for gradient in gradients:
            optimizer.apply_gradients(
                [(gradient * real(0.25 + 0.5 * rank()), variable)]
            )  # the sum is the gradient
        return variable.numpy()

    want = lars(start.astype("f8"), gradients.astype("f8"), **numbers_of)
    for found in on_replicas(2, program):
        assert_close(found, want, TOLERANCES[dtype])


@pytest.mark.parametrize("make", [make_lamb, lambda: LARS(0.5)], ids=["LAMB", "LARS"])
def test_a_norm_of_zero_makes_a_ratio_of_one(make):
    """Zeros move; a gradient of zero is no error."""
    zeros, ones, optimizer = Variable(np.zeros(3, "f8")), Variable(np.ones(3, "f8")), make()
    optimizer.apply_gradients([([1.0, -1.0, 0.5], zeros), (np.zeros(3), ones)])
    want = [-0.5, 0.5, -0.5] if isinstance(optimizer, LAMB) else [-0.5, 0.5, -0.25]
    np.testing.assert_allclose(zeros.numpy(), want, rtol=1e-6)
    assert (ones.numpy() == 1).all()


def test_every_way_to_bring_a_gradient_gives_the_same_bits():
    """In one pass, by a transformer, unaggregated, and as rows; some elements have no gradient."""
    start, gradients = numbers("f4", 3, 3 * 4000)
    start, gradients = start.reshape(-1, 3), gradients.reshape(3, -1, 3)
    rows = np.arange(0, 4000, 3)
    dense = np.zeros_like(gradients)
    dense[:, rows] = gradients[:, rows]
    ways = {
        "one pass": (dense, {}, {}),
        "stages": (dense, {"gradient_transformers": [lambda pairs: [(g * 1.0, v) for g, v in pairs]]}, {}),
        "alone": (dense, {}, {"experimental_aggregate_gradients": False}),
        "rows": ([IndexedSlices(g[rows], rows) for g in dense], {}, {}),
    }
    found = {}
    for way, (given, options, call) in ways.items():
        variable, optimizer = Variable(start), make_lamb(**options)
        for gradient in given:
            optimizer.apply_gradients([(gradient, variable)], **call)
        found[way] = [w.tobytes() for w in (variable.numpy(), *optimizer.get_weights())]
    assert all(bits == found["one pass"] for bits in found.values())
    assert_close(variable.numpy(), lamb(start.astype("f8"), dense.astype("f8")), 1e-5)


@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 8.0}], ids=["plain", "clipped"])
def test_blocks_and_shards_do_not_matter(clip, monkeypatch):
    """One replica with one block, and five that share many."""
    start, gradients = numbers("f4", 2, 300_001)

    def program():
        variables = [Variable(start), Variable(start[:5]), Variable(start[:70_000])]
        optimizer = make_lamb(weight_decay=0.125, **clip)
        for gradient in gradients if rank() == 3 % size else np.zeros_like(gradients):
            optimizer.apply_gradients([(gradient[: v.size], v) for v in variables])
        return [w.tobytes() for w in (*(v.numpy() for v in variables), *optimizer.get_weights())]

    size = 1
    want = on_replicas(size, program)[0]
    monkeypatch.setattr(partition, "BLOCK", 1 << 16)
    partition.partition.cache_clear()
    size = 5
    try:
        assert all(found == want for found in on_replicas(size, program))
    finally:
        partition.partition.cache_clear()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_dtypes_that_are_not_compiled(dtype):
    """Two replicas and one have the same bits; the narrow ones are rounded once a step."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    start, gradients = numbers("f4", 2)

    def program():
        value = start * np.complex64(1 + 1j) if dtype == "complex64" else start
        first, second = Variable(value, dtype=dtype), Variable(value[:7], dtype=dtype)
        for optimizer in (make_lamb(), LARS(0.5, trust_coefficient=0.25)):
            for gradient in gradients if rank() == 0 else np.zeros_like(gradients):
                own = gradient.astype(first.dtype)
                optimizer.apply_gradients([(own, first), (own[:7], second)])
        return first.numpy(), second.numpy()

    one, (two, other) = on_replicas(1, program)[0], on_replicas(2, program)
    assert [x.tobytes() for x in one] == [x.tobytes() for x in two] == [x.tobytes() for x in other]
    if dtype != "complex64":
        wide = lamb(start.astype("f8"), gradients.astype("f8"))
        want = lars(wide, gradients.astype("f8"), trust=0.25)
        assert_close(one[0].astype("f8"), want, 0.05)


@pytest.mark.parametrize("make", [make_lamb, lambda: LARS(0.5, weight_decay=0.25)], ids=["LAMB", "LARS"])
def test_excluded_variables_have_a_ratio_of_one(make):
    start, gradients = numbers("f4", 3, 6)
    optimizer = make()
    optimizer.exclude_from_layer_adaptation(var_names=["bias"])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    kernel, bias = Variable(start, name="kernel"), Variable(start, name="bias")
    again = copy.deepcopy(optimizer)
    for each, variables in ((optimizer, (kernel, bias)), (again, None)):
        variables = variables or (Variable(start, name="kernel"), Variable(start, name="bias"))
        for gradient in gradients:
            each.apply_gradients([(gradient, v) for v in variables])
        formula = lamb if isinstance(each, LAMB) else lars
        decay = {} if formula is lamb else {"decay": 0.25}
        wide = start.astype("f8"), gradients.astype("f8")
        assert_close(variables[0].numpy(), formula(*wide, **decay), 1e-5)
        assert_close(variables[1].numpy(), formula(*wide, adapts=False), 1e-5)
    with pytest.raises(ValueError, match="before the first step"):
        optimizer.exclude_from_layer_adaptation()
    assert "no trust ratio of bias" in optimizer.describe()


def test_a_constraint_that_raises_takes_both_passes_back():
    def refuse(w):
        if len(refused) < 2:
            return w
        raise ValueError("no")

    refused = []
    bound, free = Variable([1.0, 2.0], constraint=refuse), Variable([3.0])
    optimizer = LARS(0.5, global_clipnorm=1.0)
    pairs = [([1.0, 1.0], bound), ([1.0], free)]
    optimizer.apply_gradients(pairs)
    before = [w.tobytes() for w in (bound.numpy(), free.numpy(), *optimizer.get_weights())]
    refused += [1, 2]
    with pytest.raises(ValueError, match="no"):
        optimizer.apply_gradients(pairs)
    assert [w.tobytes() for w in (bound.numpy(), free.numpy(), *optimizer.get_weights())] == before


def test_names_and_configs():
    assert Lamb is LAMB
    for optimizer in (Lamb(0.25, weight_decay=0.5), LARS(0.25, weight_decay=0.5, trust_coefficient=0.25)):
        config = serialize(optimizer)
        assert config["config"]["weight_decay"] == 0.5
        assert serialize(deserialize(config)) == config
    assert type(deserialize({"class_name": "Lamb", "config": {}})) is LAMB
    optimizer = LARS()
    optimizer.weight_decay = 0.5
    assert optimizer.weight_decay == 0.5
    with pytest.raises(ValueError, match="weight_decay of optimizer 'LARS' must be >= 0"):
        optimizer.weight_decay = -1
