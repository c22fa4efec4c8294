"""Parameter: a parameter of a PyTorch model, and the distopt Variable that shares its memory."""

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
        axes: the permutation of the tensor's axes: axis ``i`` of the variable is axis ``axes[i]`` of the
            tensor.
    """

    __slots__ = ("axes",)

    axes: tuple[int, ...]


class Parameter:
    """A parameter of a model, as a tensor and as a variable.

    The variable is C-contiguous: its axes are those of the tensor in order of decreasing stride. So weights
    in channels-last layout need no copy.

    Args:
        tensor: the parameter: real floating-point numbers, dense, on the CPU.
        name: its name, for messages.

    Attributes:
        tensor: the parameter.
        variable: the distopt variable with its value, which the step updates.

    Raises:
        ValueError: the tensor is not such a parameter.
    """

    def __init__(self, tensor: torch.Tensor, name: str) -> None:
        _check(tensor, name)
        self.tensor = tensor
        axes = axes_by_stride(tensor)
        self._axes = tuple(range(tensor.ndim)) if axes is None else axes
        self._inverse_axes = tuple(sorted(range(tensor.ndim), key=self._axes.__getitem__))
        self._is_c_order = self._axes == tuple(range(tensor.ndim))
        self.variable = TensorVariable(self.array(tensor), name=name)
        self.variable.axes = self._axes
        self._address = 0
        self._strides: tuple[int, ...] = ()

    # -- values
    def array(self, tensor: torch.Tensor) -> Array:
        """Converts a tensor of the parameter's shape to a contiguous array of the variable's shape.

        The array shares the tensor's memory if the layout allows; otherwise it is a copy.
        """
        return as_array(tensor.detach().permute(self._axes).contiguous())

    def tensor_of(self, array: Array) -> torch.Tensor:
        """Views an array of the variable's shape as a tensor of the parameter's shape."""
        return as_tensor(array).permute(self._inverse_axes)

    def gradient(self) -> Array | IndexedSlices | None:
        """Returns ``tensor.grad`` in the variable's shape; None if there is no gradient.

        It is not copied if its layout is that of the variable.
        """
        gradient = self.tensor.grad
        if gradient is None:
            return None
        if self._is_c_order and gradient.layout is torch.strided and gradient.is_contiguous():
            return as_array(gradient)  # the fast path for the common case
        if gradient.layout is torch.sparse_coo:
            return as_slices(gradient, self.variable.name)
        return self.array(gradient)

    def set_gradient(self, gradient: Any) -> None:
        """Sets ``tensor.grad`` to a gradient of the variable's shape: an array or IndexedSlices."""
        if isinstance(gradient, IndexedSlices):
            values, indices = (as_tensor(distopt_array(part)) for part in (gradient.values, gradient.indices))
            self.tensor.grad = torch.sparse_coo_tensor(
                indices.reshape(1, -1), values, self.tensor.shape, check_invariants=False
            )
        elif self.tensor.grad is None or self.tensor.grad.layout is not torch.strided:
            self.tensor.grad = self.tensor_of(distopt_array(gradient).copy())
        else:
            self.tensor.grad.copy_(self.tensor_of(distopt_array(gradient)))

    # -- memory
    def place(self, memory: Array) -> None:
        """Makes the tensor a view of ``memory``, an array of the variable's shape that holds its value."""
        self.tensor.data = self.tensor_of(memory)
        self._address, self._strides = self.tensor.data_ptr(), self.tensor.stride()

    def place_in_own_memory(self) -> None:
        """Makes the variable use the tensor's memory.

        In a forked child of a replica, the tensor is in shared memory of the job and is copied first.
        """
        shared = self.variable.storage.shared
        memory = self.array(self.tensor.detach().clone() if shared else self.tensor)
        self.variable.storage.adopt(memory)
        self.place(memory)

    def is_placed(self) -> bool:
        """Whether the tensor still has the address and strides that :meth:`place` gave it."""
        tensor = self.tensor
        return tensor.data_ptr() == self._address and tensor.stride() == self._strides

    def fits(self) -> bool:
        """Whether the tensor still has the variable's shape and dtype, and the strides of :meth:`place`."""
        tensor = self.tensor
        array = as_array(tensor.detach().permute(self._axes)) if tensor.ndim == len(self._axes) else None
        same = array is not None and array.shape == self.variable.shape and array.dtype == self.variable.dtype
        return same and tensor.stride() == self._strides


def _check(tensor: Any, name: str) -> None:
    """Raises ValueError unless the tensor is dense, on the CPU, and of a real floating-point dtype."""
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
