"""Update rules on sparse gradients have the numbers of ``torch.optim``, or refuse in its words."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.pytorch.beside_torch import Parameter, assert_same  # noqa: E402
from tests.pytorch.update_cases import DENSE, LATER_BETAS, LATER_LR, UP, UPDATES, cases_of, said  # noqa: E402

pytestmark = pytest.mark.torch

CASES = [
    *cases_of(["SGD", "Adagrad", "SparseAdam"], ({}, LATER_LR), UP, ({}, {10: UP})),
    *cases_of(
        ["Adagrad"],
        {"lr_decay": 0.1, "initial_accumulator_value": 0.7},
        ({"eps": 0.5, "lr_decay": 0.1, **UP}, {10: {"lr_decay": 0.5}}),
    ),
    *cases_of(["SparseAdam"], ({"betas": (0.0, 0.9)}, LATER_BETAS), {"eps": 0.5, "betas": (0.5, 0.3), **UP}),
]
ROWS, WIDTH = 20, 5


@pytest.fixture(autouse=True)
def checked():
    """PyTorch warns unless one says whether sparse tensors are to be checked."""
    with torch.sparse.check_sparse_tensor_invariants(True):
        yield


def sparse(indices, values):
    at, rows = torch.from_numpy(indices[None].copy()), torch.from_numpy(values.copy())
    return torch.sparse_coo_tensor(at, rows, (ROWS, WIDTH))


def beside(name, options, dtype):
    value = np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype(dtype)
    theirs = torch.nn.Parameter(torch.from_numpy(value.copy()))
    optimizer = getattr(torch.optim, name)([theirs], **{"lr": 0.01, **options})
    return Parameter(UPDATES[name], value), theirs, optimizer


@pytest.mark.parametrize("case", CASES, ids=said)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_thirty_steps(case, dtype):
    name, options, changes = case
    own, theirs, optimizer = beside(name, options, dtype)
    rng = np.random.default_rng(3)
    for i, size in enumerate(10 ** rng.uniform(-1, 1, 30)):
        optimizer.param_groups[0].update(changes.get(i, {}))
        indices = np.sort(rng.choice(ROWS - 1, rng.integers(1, ROWS), replace=False))
        values = (size * rng.normal(size=(len(indices), WIDTH))).astype(dtype)
        theirs.grad = sparse(indices, values)
        optimizer.step()
        own.update.check_gradient(optimizer.param_groups[0], True)
        before = own.value.copy()
        own.step(optimizer.param_groups[0], values, indices)
        assert_same(own, theirs, optimizer)
        untouched = np.setdiff1d(np.arange(ROWS), indices)
        assert own.value[untouched].tobytes() == before[untouched].tobytes()


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_a_gradient_without_rows_counts_as_a_step(name):
    own, theirs, optimizer = beside(name, {}, "f4")
    rng = np.random.default_rng(4)
    for indices in (np.arange(3), np.arange(0), np.arange(2, 6)):
        values = rng.normal(size=(len(indices), WIDTH)).astype("f4")
        theirs.grad = sparse(indices, values)
        optimizer.step()
        own.step(optimizer.param_groups[0], values, indices)
        assert_same(own, theirs, optimizer)


def test_sparse_adam_counts_in_ints_as_pytorch_does():
    own, theirs, optimizer = beside("SparseAdam", {}, "f4")
    theirs.grad = sparse(np.arange(2), np.ones((2, WIDTH), "f4"))
    optimizer.step()
    own.step(optimizer.param_groups[0], np.ones((2, WIDTH), "f4"), np.arange(2))
    assert type(optimizer.state[theirs]["step"]) is type(own.scalars["step"]) is int
    assert own.update.restored(optimizer.state[theirs]) == {"step": 1}


def refusal_of_pytorch(name, options, gradient):
    _, theirs, optimizer = beside(name, options, "f4")
    theirs.grad = gradient
    with pytest.raises(RuntimeError) as caught:
        optimizer.step()
    return optimizer.param_groups[0], str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [*((n, {}) for n in DENSE if n not in ("SGD", "Adagrad")), ("Adagrad", {"weight_decay": 0.1})],
)
def test_sparse_gradients_are_refused_in_the_words_of_pytorch(name, options):
    group, words = refusal_of_pytorch(name, options, sparse(np.arange(2), np.ones((2, WIDTH), "f4")))
    with pytest.raises(RuntimeError, match=f"^{re.escape(words)}$"):
        UPDATES[name].check_gradient(group, True)


def test_dense_gradients_are_refused_in_the_words_of_pytorch():
    group, words = refusal_of_pytorch("SparseAdam", {}, torch.ones(ROWS, WIDTH))
    with pytest.raises(RuntimeError, match=f"^{re.escape(words)}$"):
        UPDATES["SparseAdam"].check_gradient(group, False)


@pytest.mark.parametrize("option", ["momentum", "weight_decay"])
def test_sgd_names_the_option_that_does_not_go_with_sparse_gradients(option):
    _, _, optimizer = beside("SGD", {option: 0.5}, "f4")
    with pytest.raises(RuntimeError, match=f"SGD with {option}=0.5 .* set it to 0"):
        UPDATES["SGD"].check_gradient(optimizer.param_groups[0], True)


@pytest.mark.parametrize("name", DENSE)
def test_dense_gradients_are_taken(name):
    _, _, optimizer = beside(name, {}, "f4")
    UPDATES[name].check_gradient(optimizer.param_groups[0], False)
