"""Decoupled weight decay: a multiplication before the step, of all variables that are not excluded."""

import copy
import pickle

import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt
from distopt import IndexedSlices, Variable, optimizers
from distopt.optimizers import SGD, Adam, AdamW, schedules

RATE, DECAY = 0.25, 0.5
KEPT = 1 - RATE * DECAY
NAMES = ["SGD", "RMSprop", "Adam", "Adamax", "Nadam", "Adagrad", "Adadelta", "Ftrl"]
WIDE = ["AdamW", "Lion", "RAdam", "AdaBelief", "LAMB"]  # they may round once where others round often


class Written(optimizers.Optimizer):
    """As users write them."""

    def __init__(self, learning_rate=RATE, name="Written", **kwargs):
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", learning_rate)

    def _resource_apply_dense(self, grad, var, apply_state):
        var.assign_sub(apply_state[var.device, var.dtype]["lr_t"] * grad)

    def get_config(self):
        return {**super().get_config(), "learning_rate": self._serialize_hyperparameter("learning_rate")}


class Wrapped(SGD):
    """An update around the inherited one."""

    def _resource_apply_dense(self, grad, handle, apply_state=None):
        super()._resource_apply_dense(grad, handle, apply_state)


def decayed_by_hand(optimizer, variables, pairs):
    for variable in variables:
        value = variable.numpy()
        variable.assign(value - value * value.dtype.type(RATE * DECAY))
    optimizer.apply_gradients(pairs)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float16") for name in [*NAMES, *WIDE]),
        *((name, "complex64") for name in [*NAMES, *WIDE] if name != "Ftrl"),  # which compares numbers
    ],
)
def test_a_step_is_a_decay_and_a_step_without(name, dtype):
    """In dtypes that are not compiled, where nothing has to be; recordings of Keras have float32."""
    generator = np.random.default_rng(3)
    cls = getattr(optimizers, name)
    values = generator.normal(size=(3, 2)).astype(dtype)
    ours, theirs = Variable(values, name="v"), Variable(values, name="v")
    plain = {"weight_decay": 0.0} if name == "AdamW" else {}
    decaying, other = cls(learning_rate=RATE, weight_decay=DECAY), cls(learning_rate=RATE, **plain)
    for _ in range(3):
        gradient = generator.normal(size=(3, 2)).astype(dtype)
        decaying.apply_gradients([(gradient, ours)])
        decayed_by_hand(other, [theirs], [(gradient, theirs)])
    if name in NAMES or name == "AdamW":
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    else:
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=4e-3, atol=4e-3)
    assert [w.shape for w in decaying.get_weights()] == [w.shape for w in other.get_weights()]


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, Written, Wrapped])
def test_no_gradient_leaves_only_the_decay(make):
    kernel, bias = Variable([2.0, -4.0], name="kernel"), Variable([2.0], name="bias")
    optimizer = make(learning_rate=RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias$"])
    for _ in range(2):
        optimizer.apply_gradients([(np.zeros(2, "f4"), kernel), (np.zeros(1, "f4"), bias)])
    np.testing.assert_array_equal(kernel.numpy(), np.array([2.0, -4.0], "f4") * np.float32(KEPT**2))
    assert bias.numpy() == 2.0


def test_the_learning_rate_of_the_step_counts():
    v = Variable([1.0])
    optimizer = SGD(schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0]), weight_decay=1.0)
    for _ in range(3):
        optimizer.apply_gradients([(np.zeros(1, "f4"), v)])
    assert v.numpy() == np.float32(0.5 * 0.75)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "AdamW", "Ftrl"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sparse_gradients_decay_all_rows(name, dtype):
    """As in Keras 3; rows that are named are where a dense step puts them, others lose the decay."""
    generator = np.random.default_rng(5)
    values, rows = generator.normal(size=(5, 2)).astype(dtype), np.array([3, 0])
    gradient = generator.normal(size=(2, 2)).astype(dtype)
    make = lambda: getattr(optimizers, name)(learning_rate=RATE, weight_decay=DECAY)  # noqa: E731
    whole = np.zeros((5, 2), dtype)
    whole[rows] = gradient

    def step(given):
        v = Variable(values, name="v")
        make().apply_gradients([(given, v)])
        return v.numpy()

    sparse, dense = step(IndexedSlices(gradient, rows, (5, 2))), step(whole)
    others = np.array([1, 2, 4])
    np.testing.assert_array_equal(sparse[rows], dense[rows])
    np.testing.assert_array_equal(
        sparse[others], values[others] - values[others] * values.dtype.type(RATE * DECAY)
    )
    if dtype == "float32":
        parts = IndexedSlices(gradient / 2, rows, (5, 2))
        for found in on_replicas(2, lambda: step(parts)):
            np.testing.assert_array_equal(found, sparse)


def test_exclusion_goes_by_variable_and_by_name():
    values = {name: Variable([1.0], name=name) for name in ("kernel", "bias", "norm/scale", "scaled")}
    optimizer = SGD(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])  # the next call takes its place
    optimizer.exclude_from_weight_decay([values["bias"]], ["^norm", "scale$"])

    def step(optimizer):
        optimizer.apply_gradients([(np.zeros(1, "f4"), v) for v in values.values()])
        return {name for name, v in values.items() if v.numpy() < 1.0}

    assert "no decay of bias, ^norm|scale$" in optimizer.describe()
    twins = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    for one in (optimizer, *twins):
        assert step(one) == {"kernel", "scaled"}
        for v in values.values():
            v.assign([1.0])
    with pytest.raises(ValueError, match="must precede the first step"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])
    assert step(optimizer) == {"kernel", "scaled"}


def test_bad_arguments_change_nothing():
    optimizer = AdamW()
    for arguments, error in [
        ((["bias"], None), TypeError),
        ((None, [1]), TypeError),
        ((None, ["(bias"]), ValueError),
    ]:
        with pytest.raises(error, match="exclude_from_weight_decay"):
            optimizer.exclude_from_weight_decay(*arguments)
    for bad, error in [(-0.1, ValueError), (np.nan, ValueError), ("1", TypeError)]:
        with pytest.raises(error, match="weight_decay"):
            optimizer.weight_decay = bad
        with pytest.raises(error, match="weight_decay"):
            SGD(weight_decay=bad)
    with pytest.raises(ValueError, match="weight_decay"):
        AdamW(weight_decay=None)
    assert optimizer.weight_decay == 0.004
    assert "no decay" not in optimizer.describe()


def test_decay_may_change_between_steps():
    v = Variable([1.0])
    optimizer = SGD(1.0)
    for decay, expected in [(None, 1.0), (0.5, 0.5), (0.0, 0.5), (0.25, 0.375)]:
        optimizer.weight_decay = decay
        optimizer.apply_gradients([(np.zeros(1, "f4"), v)])
        assert v.numpy() == expected
    assert optimizer.get_config()["weight_decay"] == 0.25
    assert SGD.from_config(optimizer.get_config()).weight_decay == 0.25
    assert "weight_decay" not in SGD().get_config()
    assert "weight_decay=0.25" in optimizer.describe()


def quarter_of_the_kernel(name):
    return 0.25 if name == "kernel" else 1.0


def test_multipliers_by_variable():
    kernel, bias = Variable([8.0], name="kernel"), Variable([8.0], name="bias")
    optimizer = SGD(
        0.5,
        weight_decay=0.5,
        learning_rate_multiplier=quarter_of_the_kernel,
        weight_decay_multiplier=lambda name: {"kernel": 2.0, "bias": 0.0}[name],
    )
    pairs = [(np.ones(1, "f4"), kernel), (np.ones(1, "f4"), bias)]
    optimizer.apply_gradients(pairs)
    # The decay is times the variable's own learning rate, as in groups of PyTorch.
    assert kernel.numpy() == 8.0 * (1 - 0.125 * 0.5 * 2) - 0.125
    assert bias.numpy() == 8.0 - 0.5
    assert "learning_rate_multiplier=quarter_of_the_kernel" in optimizer.describe()


def test_multipliers_are_the_same_as_rates_of_their_own():
    """For rules that do more with the learning rate than to multiply by it."""
    for name in ("Adam", "Ftrl", "Nadam", "RAdam"):
        cls = getattr(optimizers, name)
        both = cls(learning_rate=0.5, learning_rate_multiplier=quarter_of_the_kernel)
        own = {"kernel": cls(learning_rate=0.125), "bias": cls(learning_rate=0.5)}
        ours = {key: Variable(np.array([1, -2], "f2"), name=key) for key in own}
        theirs = {key: Variable(np.array([1, -2], "f2"), name=key) for key in own}
        gradient = np.array([0.5, -1.5], "f2")
        for _ in range(3):
            both.apply_gradients([(gradient, v) for v in ours.values()])
            for key, optimizer in own.items():
                optimizer.apply_gradients([(gradient, theirs[key])])
        for key in own:
            np.testing.assert_array_equal(ours[key].numpy(), theirs[key].numpy())


def test_multipliers_in_configs_and_errors():
    optimizer = Adam(learning_rate_multiplier=quarter_of_the_kernel)
    config = optimizer.get_config()
    assert config["learning_rate_multiplier"] == "quarter_of_the_kernel"
    with pytest.raises(ValueError, match="Unknown learning_rate_multiplier: quarter_of_the_kernel"):
        Adam.from_config(config)
    again = Adam.from_config(config, {"quarter_of_the_kernel": quarter_of_the_kernel})
    assert again.get_config() == config
    with pytest.raises(TypeError, match="weight_decay_multiplier must be a function"):
        SGD(weight_decay_multiplier=0.5)
    v = Variable([1.0], name="v")
    for made in (-1.0, np.nan):
        with pytest.raises(ValueError, match=r"learning_rate_multiplier .* returns for 'v'"):
            SGD(learning_rate_multiplier=lambda name, made=made: made).apply_gradients([([1.0], v)])
    with pytest.raises(TypeError, match="needs a compiled rule; Written has none"):
        Written(learning_rate_multiplier=lambda name: 0.5).apply_gradients([([1.0], v)])
    assert v.numpy() == 1.0


def test_replicas_must_agree_on_what_decays():
    def program():
        optimizer = SGD(RATE, weight_decay=DECAY)
        optimizer.exclude_from_weight_decay(var_names=["v"] if rank() else [])
        optimizer.apply_gradients([([1.0], Variable([1.0], name="v"))])

    with pytest.raises(distopt.errors.ReplicaMismatch, match="sgd with weight decay"):
        on_replicas(2, program)
