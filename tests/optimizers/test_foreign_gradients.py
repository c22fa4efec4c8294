"""Gradients of other libraries: read where they lie, never changed, refused in words."""

import array

import numpy as np
import pytest

from distopt import Variable
from distopt.core.foreign import foreign_array
from distopt.optimizers import SGD

VALUES = [1.0, 2.0, 3.0, 4.0]


class Capsule:
    """Nothing but DLPack."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **kwargs):
        return self.values.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def step(gradient):
    variable = Variable(np.zeros(4, np.float32), name="v")
    SGD(1.0).apply_gradients([(gradient, variable)])
    return (-variable.numpy()).tolist()


KINDS = {
    "array.array": lambda: array.array("f", VALUES),
    "memoryview": lambda: memoryview(np.array(VALUES, np.float32)),
    "strided": lambda: np.repeat(np.array(VALUES, np.float32), 3)[::3],
    "backwards": lambda: np.array(VALUES[::-1], np.float32)[::-1],
    "read-only": lambda: np.broadcast_to(np.array(VALUES, np.float32), (4,)),
    "DLPack": lambda: Capsule(np.array(VALUES, np.float32)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_may_lie_anywhere(kind):
    gradient = KINDS[kind]()
    assert step(gradient) == VALUES
    assert step(gradient) == VALUES  # it is as it was


def test_memory_is_shared():
    values = np.array(VALUES, np.float32)
    for owner in (Capsule(values), memoryview(values), values):
        assert np.shares_memory(foreign_array(owner, "it"), values)


@pytest.mark.torch
def test_gradients_of_torch():
    torch = pytest.importorskip("torch")
    gradient = torch.tensor(VALUES)
    assert foreign_array(gradient, "it").ctypes.data == gradient.data_ptr()
    assert step(gradient) == VALUES
    assert step(torch.tensor(VALUES).repeat_interleave(2)[::2]) == VALUES
    assert gradient.tolist() == VALUES


@pytest.mark.torch
def test_what_torch_cannot_give_out_is_named():
    torch = pytest.importorskip("torch")
    good = torch.tensor(VALUES)
    for bad, why in (
        (good.clone().requires_grad_(), "detach"),
        (good.bfloat16(), "bfloat16: cast it"),
        (torch.empty(4, device="meta"), "meta"),
        (good.to_sparse(), "to_dense"),
    ):
        with pytest.raises(TypeError, match=f"(?s)gradient of variable 'v:0' cannot be read.*{why}"):
            step(bad)
