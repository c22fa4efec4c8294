"""Names of parameters, where an optimizer gets the parameters alone."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["module_behind", "module_of", "modules_of", "names_in"]


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


def module_of(tensors: Iterable[torch.Tensor]) -> torch.nn.Module | None:
    """The smallest of the program's modules that have most of these parameters; None if no module has any.

    It looks through all objects of the program: to watch forward passes instead would slow them down, and
    make torch.compile() compile twice.
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
    """The program's modules that have the parameters which the known ones lack; the largest part first."""
    covered = {id(own) for module in known for own in module.parameters()}
    left = [tensor for tensor in tensors if id(tensor) not in covered]
    found: list[torch.nn.Module] = []
    while left and (module := module_of(left)) is not None:
        found.append(module)
        covered = set(map(id, module.parameters()))
        left = [tensor for tensor in left if id(tensor) not in covered]
    return found
