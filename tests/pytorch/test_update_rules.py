"""Update rules have the numbers of ``torch.optim``, with every option."""

import copy
import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from distopt.engine.rule import Rule  # noqa: E402
from tests.pytorch.beside_torch import Parameter, assert_same, gradients  # noqa: E402
from tests.pytorch.update_cases import CASES, DENSE, UPDATES, said  # noqa: E402

pytestmark = pytest.mark.torch


def both_dtypes(argument, values, name_of, ids=None):
    """Each value in both dtypes; those in float64 are slow but for one rule, since each is compiled twice."""
    pairs = [
        pytest.param(
            value, dtype, marks=[pytest.mark.slow] if dtype == "f8" and name_of(value) != "Adam" else []
        )
        for value in values
        for dtype in ("f4", "f8")
    ]
    return pytest.mark.parametrize((argument, "dtype"), pairs, ids=ids)


every_case = both_dtypes("case", CASES, lambda case: case[0], lambda x: x if isinstance(x, str) else said(x))
every_dense = pytest.mark.parametrize("name", DENSE)

#: Options that are about how PyTorch computes, not what.
HOW = {"foreach", "capturable", "differentiable", "fused"}


def beside(name, options, value):
    """A parameter, the tensor that PyTorch updates, and the optimizer with one group."""
    theirs = torch.nn.Parameter(torch.from_numpy(value.copy()))
    optimizer = getattr(torch.optim, name)([theirs], **{"lr": 0.01, **options})
    return Parameter(UPDATES[name], value), theirs, optimizer


def both_step(own, theirs, optimizer, gradient):
    theirs.grad = torch.from_numpy(gradient.copy())
    optimizer.step()
    own.step(optimizer.param_groups[0], gradient)


def start(shape=(7, 13), dtype="f4"):
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


@every_case
def test_thirty_steps(case, dtype):
    name, options, changes = case
    own, theirs, optimizer = beside(name, options, start(dtype=dtype))
    for i, gradient in enumerate(gradients(own.value.shape, dtype, 30)):
        optimizer.param_groups[0].update(changes.get(i, {}))
        both_step(own, theirs, optimizer, gradient)
        assert_same(own, theirs, optimizer)
    assert (own.value == start(dtype=dtype)).all() == (options.get("lr") == 0)


def test_every_option_is_tried():
    for name in DENSE:
        cases = [c for c in CASES if c[0] == name]
        tried = {key for _, options, changes in cases for new in (options, *changes.values()) for key in new}
        options = set(inspect.signature(getattr(torch.optim, name)).parameters) - HOW - {"params"}
        assert tried >= options, name


def test_rules_have_names_of_their_own():
    rules = {
        found
        for update in UPDATES.values()
        for found in vars(inspect.getmodule(update)).values()
        if isinstance(found, Rule)
    }
    assert len({rule.name for rule in rules}) == len(rules) == 15


@pytest.mark.parametrize(
    "case", [case if case[2] else pytest.param(case, marks=pytest.mark.slow) for case in CASES], ids=said
)
@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
def test_it_goes_on_from_the_state_of_pytorch(case, dtype):
    """The scalars come from what PyTorch has kept, at any step."""
    name, options, changes = case
    own, theirs, optimizer = beside(name, options, start(dtype=dtype))
    for i, gradient in enumerate(gradients(own.value.shape, dtype, 24)):
        optimizer.param_groups[0].update(changes.get(i, {}))
        state = copy.deepcopy(optimizer.state[theirs])
        own.scalars = own.update.restored(state)
        own.slots = {key: x.numpy() for key, x in state.items() if x is not None and key not in own.scalars}
        both_step(own, theirs, optimizer, gradient)
        assert_same(own, theirs, optimizer)


@every_dense
def test_restoring_nothing_is_the_beginning(name):
    assert UPDATES[name].restored({}) == UPDATES[name].scalars


def test_a_state_without_its_scalars_is_refused():
    with pytest.raises(KeyError, match="mu_product"):
        UPDATES["NAdam"].restored({"step": torch.tensor(3.0)})


@every_dense
def test_options_may_be_tensors_of_one_element(name):
    own, theirs, optimizer = beside(name, {"lr": torch.tensor(0.3)}, start())
    for gradient in gradients(own.value.shape, "f4", 5):
        both_step(own, theirs, optimizer, gradient)
    assert_same(own, theirs, optimizer)
    group = {key: _as_tensor(x) for key, x in optimizer.param_groups[0].items()}
    floats = own.update.coefficients(group, own.scalars)
    assert {type(x) for x in floats.values()} == {float}
    assert floats == own.update.coefficients(optimizer.param_groups[0], own.scalars)
    assert all(isinstance(x, float) for x in own.update.advanced(group, own.scalars).values())


def _as_tensor(option):
    if isinstance(option, tuple):
        return tuple(map(_as_tensor, option))
    return torch.tensor(option, dtype=torch.float64) if isinstance(option, float) else option


@both_dtypes("name", DENSE, str)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}], ids=str)
def test_gradients_of_extreme_sizes(name, dtype, options):
    """Zeros, denormals, squares that are too large unless scaled first, and such that always are."""
    limits = np.finfo(dtype)
    own, theirs, optimizer = beside(name, options, start(dtype=dtype))
    rng = np.random.default_rng(2)
    sizes = (0.0, limits.smallest_subnormal * 5, limits.tiny, 0.0, 2 * limits.max**0.5, limits.max / 4, 1.0)
    with np.errstate(over="ignore", under="ignore"):
        for size in sizes:
            gradient = (size * rng.uniform(-1, 1, own.value.shape)).astype(dtype)
            both_step(own, theirs, optimizer, gradient)
            assert_same(own, theirs, optimizer)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"betas": (0.0, 0.9)}) for name in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")),
        ("Adam", {"betas": (0.0, 0.9), "amsgrad": True}),
        ("RMSprop", {"alpha": 0.0, "centered": True}),
        ("RMSprop", {"alpha": 0.0, "centered": True, "momentum": 0.9}),
    ],
)
def test_a_mean_that_forgets_at_once_is_the_gradient(name, options):
    """However large the gradient before was."""
    own, theirs, optimizer = beside(name, options, start())
    for size in (1e9, 1.0):
        both_step(own, theirs, optimizer, start() * np.float32(size))
    # Not the parameter: the variance of a centered RMSprop is but a rounding error here, of any sign.
    mean = "grad_avg" if name == "RMSprop" else "exp_avg"
    np.testing.assert_array_equal(own.slots[mean], start())
    np.testing.assert_array_equal(optimizer.state[theirs][mean].numpy(), start())


@every_dense
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}], ids=str)
def test_what_is_not_finite_stays_what_it_is_in_pytorch(name, options):
    value = start((4, 5))
    value[0] = [np.inf, -np.inf, np.nan, np.inf, -np.inf]
    own, theirs, optimizer = beside(name, options, value)
    for i, gradient in enumerate(gradients(value.shape, "f4", 4)):
        gradient[0, :2] = 0
        gradient[1, : i + 1] = [np.inf, -np.inf, np.nan, 0][: i + 1]
        both_step(own, theirs, optimizer, gradient)
        assert_same(own, theirs, optimizer)


@every_dense
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (2, 3, 4)], ids=str)
def test_any_shape(name, shape):
    own, theirs, optimizer = beside(name, {}, np.asarray(start(shape)))
    for gradient in gradients(shape, "f4", 3):
        both_step(own, theirs, optimizer, np.asarray(gradient))
        assert_same(own, theirs, optimizer)


@pytest.mark.parametrize(
    "name", [n if n == "NAdam" else pytest.param(n, marks=pytest.mark.slow) for n in DENSE]
)
def test_thousands_of_steps(name):
    """Bias corrections that are nearly 1, and coefficients whose rounding would add up."""
    own, theirs, optimizer = beside(name, {"lr": 1e-4}, start())
    directions = list(gradients(own.value.shape, "f4", 50))
    for i in range(4_000):
        both_step(own, theirs, optimizer, directions[i % 50])
    assert_same(own, theirs, optimizer)
