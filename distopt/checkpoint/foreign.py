"""Tensors of PyTorch in states, in a program that has imported it; nothing here imports it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["is_tensor", "tensor_as_array", "tensor_of", "torch_module"]


def torch_module() -> Any:
    """PyTorch, if the program has imported it."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "default_generator") else None


def is_tensor(value: Any) -> bool:
    """Whether the value is a tensor, or a parameter, of PyTorch."""
    torch = torch_module()
    return torch is not None and isinstance(value, torch.Tensor)


def tensor_as_array(tensor: Any, where: str) -> tuple[Array, str]:
    """The values of a tensor, in its memory where that has no gaps, and the name of its dtype.

    Dtypes that NumPy lacks, such as bfloat16, come as bytes: uint8 of shape ``[..., itemsize]``.

    Raises:
        TypeError: it is sparse or quantized, or not on the CPU.
    """
    torch = torch_module()
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise TypeError(
            f"{where} is a tensor on {tensor.device}, {tensor.layout}, {tensor.dtype}: a checkpoint can hold "
            f"dense ones on the CPU"
        )
    values, name = tensor.detach().resolve_conj().resolve_neg().contiguous(), str(tensor.dtype)
    try:
        array: Array = values.numpy()
    except TypeError:
        array = values.unsqueeze(-1).view(torch.uint8).numpy()
    return array, name.removeprefix("torch.")


def tensor_of(array: Array, name: str) -> Any:
    """The tensor that :func:`tensor_as_array` gave the values and the dtype of; in memory of its own.

    Raises:
        ValueError: PyTorch has not been imported, or has no such dtype.
    """
    torch = torch_module()
    if torch is None:
        raise ValueError("it holds tensors of PyTorch, which this program has not imported: import torch")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is not a dtype of PyTorch")
    tensor = torch.from_numpy(np.array(array))
    if tensor.dtype is dtype:
        return tensor
    if tensor.dtype is not torch.uint8 or array.ndim == 0 or array.shape[-1] != dtype.itemsize:
        raise ValueError(f"{array.dtype}{list(array.shape)} cannot be read as {name}")
    return tensor.view(dtype).squeeze(-1) if tensor.numel() else torch.empty(array.shape[:-1], dtype=dtype)
