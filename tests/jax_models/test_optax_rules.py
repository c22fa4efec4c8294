"""Update rules have the numbers of optax, with every option."""

import inspect

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

from jax_precision import x64  # noqa: E402
from replicated import on_replicas  # noqa: E402

import distopt.jax as dj  # noqa: E402

pytestmark = pytest.mark.jax

STEPS = 20
#: The function, its options, and of those which make another kernel.
CASES = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("adam", {"b1": 0.8, "b2": 0.99, "eps": 1e-3, "eps_root": 1e-4}),
    ("adam", {"nesterov": True, "b1": 0.0}),
    ("adamw", {"weight_decay": 0.1, "mask": {"a": True, "b": False}}),
    ("adamw", {"weight_decay": optax.linear_schedule(0.3, 0.0, 10), "nesterov": True}),
    ("nadam", {}),
    ("nadamw", {"mask": lambda params: {name: name == "a" for name in params}}),
    ("adamax", {"b1": 0.8, "b2": 0.9, "eps": 1e-3}),
    ("adamaxw", {"weight_decay": 0.2, "mask": {"a": False, "b": True}}),
    ("lion", {"b1": 0.8, "b2": 0.95, "weight_decay": 0.01, "mask": True}),
    ("lamb", {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}),
    ("lamb", {"weight_decay": 0.1, "mask": {"a": True, "b": False}}),
    ("lars", {"weight_decay": optax.linear_schedule(0.3, 0.0, 10), "trust_coefficient": 0.1, "eps": 1e-2}),
    (
        "lars",
        {
            "weight_decay": 0.2,
            "weight_decay_mask": {"a": True, "b": False},
            "trust_ratio_mask": lambda params: {name: name == "b" for name in params},
            "momentum": 0.5,
            "nesterov": True,
        },
    ),
    ("radam", {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "eps_root": 1e-4, "threshold": 4.5}),
    ("radam", {"nesterov": True}),
    ("adabelief", {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "eps_root": 1e-4}),
    ("adabelief", {"nesterov": True}),
    ("adagrad", {"initial_accumulator_value": 0.0, "eps": 1e-3}),
    ("rmsprop", {}),
    ("rmsprop", {"decay": 0.8, "eps": 1e-3, "eps_in_sqrt": False, "initial_scale": 0.5}),
    ("rmsprop", {"momentum": 0.9, "nesterov": True, "bias_correction": True}),
    ("rmsprop", {"centered": True, "bias_correction": True, "eps": 1e-2}),
    ("rmsprop", {"centered": True, "momentum": 0.5, "eps": 1e-2}),
]
said = [f"{name}{list(options)}" for name, options in CASES]
#: What optax has for the dtype of its state only.
DTYPES = {"mu_dtype", "accumulator_dtype"}


def start(dtype):
    draw = np.random.default_rng(1).normal
    return {"a": draw(size=(3, 5)).astype(dtype), "b": draw(size=(3, 5)).astype(dtype)}


def gradient(step, dtype):
    draw = np.random.default_rng(100 + step).normal
    found = {"a": draw(size=(3, 5)), "b": draw(size=(3, 5))}
    found["a"][0] = 0  # also where there never is any
    if np.dtype(dtype).kind == "c":
        found = {name: value * (1 - 2j) for name, value in found.items()}
    return {name: value.astype(dtype) for name, value in found.items()}


def skip_what_optax_lacks(options):
    """Ends a test with a schedule of weight decay, which old versions do not have."""
    decay = options.get("weight_decay")
    state = optax.add_decayed_weights(decay).init(start("f4")) if callable(decay) else None
    if state == optax.EmptyState():
        pytest.skip("in this optax weight decay is a number")


def optax_ends(name, options, dtype, rate):
    """What optax makes of the parameters."""
    optimizer = getattr(optax, name)(rate, **options)
    params = jax.tree.map(jax.numpy.asarray, start(dtype))
    state = optimizer.init(params)
    for step in range(STEPS):
        updates, state = optimizer.update(gradient(step, dtype), state, params)
        params = optax.apply_updates(params, updates)
    return params


def ours(name, options, dtype, rate):
    optimizer = getattr(dj, name)(rate, **options)
    optimizer.init(start(dtype))
    for step in range(STEPS):
        params = optimizer.apply(gradient(step, dtype))
    return params


def assert_close(found, expected, tolerance=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        wide = np.complex128 if np.iscomplexobj(one) else np.float64
        f, e = np.asarray(one, wide), np.asarray(other, wide)
        assert np.abs(f - e).max() <= tolerance * np.abs(e).max()


@pytest.mark.parametrize(("name", "options"), CASES, ids=said)
def test_twenty_steps_of_complex_numbers(name, options):
    """Which are evaluated by NumPy; with a schedule."""
    skip_what_optax_lacks(options)
    schedule = optax.exponential_decay(0.01, 5, 0.7)
    with x64(True):
        found = ours(name, options, np.complex128, schedule)
        assert_close(found, optax_ends(name, options, np.complex128, schedule))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES, ids=said)
def test_twenty_steps_of_compiled_code(name, options):
    skip_what_optax_lacks(options)
    for found in on_replicas(2, lambda: ours(name, options, np.float32, 0.01)):
        assert_close(found, optax_ends(name, options, np.float32, 0.01))


def test_every_function_has_the_arguments_and_defaults_of_optax():
    for name in {name for name, _ in CASES}:
        own, theirs = (inspect.signature(getattr(m, name)).parameters for m in (dj, optax))
        taken = {key: value.default for key, value in own.items() if key != "options"}
        if name in ("nadam", "nadamw"):
            theirs = inspect.signature(optax.adamw).parameters
            theirs = {k: v for k, v in theirs.items() if k in taken}
        assert taken == {key: value.default for key, value in theirs.items()}, name
        family = {case for case, _ in CASES if case.strip("nw") == name.strip("nw")}
        tried = {key for case, options in CASES if case in family for key in options}
        assert set(taken) - DTYPES - {"learning_rate"} <= tried, name
