"""Names of parameters, where an optimizer gets the parameters alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

__all__ = ["ModuleWatch", "module_behind", "names_in"]


def module_behind(params: Any) -> torch.nn.Module | None:
    """The module whose parameters these are: itself, or that of a call of ``module.parameters()``."""
    if isinstance(params, torch.nn.Module):
        return params
    if not inspect.isgenerator(params):
        return None
    owner = inspect.getgeneratorlocals(params).get("self")
    return owner if isinstance(owner, torch.nn.Module) else None


def names_in(module: torch.nn.Module | None) -> dict[int, str]:
    """The names of a module's parameters by their tensors' ids, as ``named_parameters()`` gives them."""
    if module is None:
        return {}
    return {id(tensor): name.replace("_orig_mod.", "") for name, tensor in module.named_parameters()}


class ModuleWatch:
    """Finds the module of some parameters at a forward pass.

    Args:
        tensors: the parameters.

    Attributes:
        found: the module that holds most of the parameters, of those that have made a forward pass; or None.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self.found: torch.nn.Module | None = None
        self._wanted = {id(tensor) for tensor in tensors}
        self._covered = 0
        self._handle = register_module_forward_pre_hook(self._look)

    def _look(self, module: torch.nn.Module, _: Any) -> None:
        # The outermost module comes first; one that holds more of the parameters may come later.
        if self._covered == len(self._wanted):
            return
        covered = sum(id(tensor) in self._wanted for tensor in module.parameters())
        if covered > self._covered:
            self.found, self._covered = module, covered

    def stop(self) -> None:
        """Ends the search."""
        self._handle.remove()
