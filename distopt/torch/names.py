"""Finds the names of parameters when an optimizer gets only the parameters, not the model."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["module_behind", "module_of", "modules_of", "names_in"]


def module_behind(params: Any) -> torch.nn.Module | None:
    """The module, if ``params`` is a module or the generator of ``module.parameters()``; else None."""
    if isinstance(params, torch.nn.Module):
        return params
    if not inspect.isgenerator(params):
        return None
    owner = inspect.getgeneratorlocals(params).get("self")
    return owner if isinstance(owner, torch.nn.Module) else None


def names_in(module: torch.nn.Module | None) -> dict[int, str]:
    """The names of a module's parameters by id of the tensor, without the prefix of ``torch.compile``."""
    if module is None:
        return {}
    return {id(tensor): name.replace("_orig_mod.", "") for name, tensor in module.named_parameters()}


def module_of(tensors: Iterable[torch.Tensor]) -> torch.nn.Module | None:
    """The smallest module among those that have the most of these parameters; None if no module has any.

    It searches all objects of the program. Hooks on forward passes would slow these down, and make
    torch.compile() compile twice.
    """
    wanted = {id(tensor) for tensor in tensors}
    best: torch.nn.Module | None = None
    most = 0, 0
    for module in gc.get_objects():
        # By its type: a proxy's __class__ may be a property that imports things, or warns.
        if not issubclass(type(module), torch.nn.Module) or "_parameters" not in vars(module):
            continue
        covered = sum(id(tensor) in wanted for tensor in module.parameters())
        if covered and (rank := (covered, -sum(1 for _ in module.modules()))) > most:
            best, most = module, rank
    return best


def modules_of(tensors: Iterable[torch.Tensor], known: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """Modules of the program that together have the parameters that the known modules lack.

    The first has the most of these parameters.
    """
    covered = {id(own) for module in known for own in module.parameters()}
    left = [tensor for tensor in tensors if id(tensor) not in covered]
    found: list[torch.nn.Module] = []
    while left and (module := module_of(left)) is not None:
        found.append(module)
        covered = set(map(id, module.parameters()))
        left = [tensor for tensor in left if id(tensor) not in covered]
    return found
