"""Parameter: a parameter of a PyTorch model, and the Variable that stands for it in distopt."""

from __future__ import annotations

from typing import Any

import torch

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.parameter_variable import ParameterVariable
from distopt.core.tensor import as_array as distopt_array
from distopt.torch.tensors import as_array, as_slices, as_tensor, axes_by_stride
from distopt.typing import Array

__all__ = ["Parameter", "TensorVariable"]


class TensorVariable(ParameterVariable):
    """The variable of a parameter.

    Attributes:
        axes: the tensor's axes, in the order in which the variable has them.
    """

    __slots__ = ("axes",)

    axes: tuple[int, ...]


class Parameter:
    """One parameter.

    The variable has the tensor's axes in the order in which they lie in memory (channels-last weights are
    contiguous so), and no gaps.

    Args:
        tensor: the parameter.
        name: its name.

    Attributes:
        variable: its value for the step.
    """

    def __init__(self, tensor: torch.Tensor, name: str) -> None:
        _check(tensor, name)
        self.tensor = tensor
        axes = axes_by_stride(tensor)
        self._axes = tuple(range(tensor.ndim)) if axes is None else axes
        self._back = tuple(sorted(range(tensor.ndim), key=self._axes.__getitem__))
        self._plain = self._axes == self._back == tuple(range(tensor.ndim))
        self.variable = TensorVariable(self.array(tensor), name=name)
        self.variable.axes = self._axes
        self._address = 0
        self._strides: tuple[int, ...] = ()

    # -- values
    def array(self, tensor: torch.Tensor) -> Array:
        """A tensor of the parameter's shape as the variable has it: in its memory, or a copy without gaps."""
        return as_array(tensor.detach().permute(self._axes).contiguous())

    def tensor_of(self, array: Array) -> torch.Tensor:
        """The opposite: an array of the variable's shape as a tensor of the parameter's, in its memory."""
        return as_tensor(array).permute(self._back)

    def gradient(self) -> Array | IndexedSlices | None:
        """The gradient, in its own memory where that is laid out like the variable; None if there is none."""
        gradient = self.tensor.grad
        if gradient is None:
            return None
        if self._plain and gradient.layout is torch.strided and gradient.is_contiguous():
            return as_array(gradient)  # the common case, at little cost
        if gradient.layout is torch.sparse_coo:
            return as_slices(gradient, self.variable.name)
        return self.array(gradient)

    def set_gradient(self, gradient: Any) -> None:
        """Replaces the gradient of the tensor with a tensor or with IndexedSlices of distopt."""
        if isinstance(gradient, IndexedSlices):
            values, indices = (as_tensor(distopt_array(part)) for part in (gradient.values, gradient.indices))
            self.tensor.grad = torch.sparse_coo_tensor(
                indices.reshape(1, -1), values, self.tensor.shape, check_invariants=False
            )
        elif self.tensor.grad is None or self.tensor.grad.layout is not torch.strided:
            self.tensor.grad = self.tensor_of(distopt_array(gradient).copy())
        else:
            self.tensor.grad.copy_(self.tensor_of(distopt_array(gradient)))

    # -- where it lies
    def place(self, memory: Array) -> None:
        """Moves the parameter into memory that holds its value, an array of the variable's shape."""
        self.tensor.data = self.tensor_of(memory)
        self._address, self._strides = self.tensor.data_ptr(), self.tensor.stride()

    def place_in_own_memory(self) -> None:
        """Makes the tensor's memory the variable's; in a child of a replica, a copy of what they share."""
        shared = self.variable.storage.shared
        memory = self.array(self.tensor.detach().clone() if shared else self.tensor)
        self.variable.storage.adopt(memory)
        self.place(memory)

    def is_placed(self) -> bool:
        """Whether the tensor lies where it was placed, with the same dtype and layout."""
        tensor = self.tensor
        return tensor.data_ptr() == self._address and tensor.stride() == self._strides

    def fits(self) -> bool:
        """Whether the tensor still has the variable's shape and dtype, and its layout is the one placed."""
        tensor = self.tensor
        array = as_array(tensor.detach().permute(self._axes)) if tensor.ndim == len(self._axes) else None
        same = array is not None and array.shape == self.variable.shape and array.dtype == self.variable.dtype
        return same and tensor.stride() == self._strides


def _check(tensor: Any, name: str) -> None:
    """Raises if no optimizer here can update it."""
    if tensor.is_meta:
        raise ValueError(
            f"parameter {name!r} is on the meta device, which has no memory: call "
            "model.to_empty(device='cpu'), then initialize it"
        )
    if tensor.device.type != "cpu":
        raise ValueError(
            f"parameter {name!r} is on {tensor.device}: distopt.torch trains on the CPUs of an MPI job; for "
            f"GPUs use torch.nn.parallel.DistributedDataParallel. model.cpu() moves a model to the CPU"
        )
    if tensor.layout is not torch.strided:
        raise ValueError(f"parameter {name!r} is sparse ({tensor.layout}); only its gradient can be")
    if not tensor.is_floating_point():
        raise ValueError(
            f"parameter {name!r} has dtype {tensor.dtype}; only real floating-point ones are trained"
        )
