"""Parameters: where an optimizer's parameters lie, and what the program does to them between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from distopt.distribute import require_replica_context
from distopt.engine.step import StepEngine
from distopt.torch.parameter import Parameter

__all__ = ["Parameters"]


class Parameters:
    """The parameters of one optimizer, found by their tensors.

    Where a job has several replicas, a parameter lies in the memory that the replicas of a node share. The
    program sees it through a view of its own: what it writes there stays its own until the next step, in
    which all replicas must have written the same.
    """

    def __init__(self) -> None:
        self._known: dict[int, Parameter] = {}  # by the tensor's id; it lives as long as the parameter here

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._known.values())

    def of(self, tensor: torch.Tensor) -> Parameter:
        """The parameter of a tensor that has been added."""
        return self._known[id(tensor)]

    def lacking(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Those that have not been added."""
        return [tensor for tensor in tensors if id(tensor) not in self._known]

    def add(self, call: str, named: Sequence[tuple[str, torch.Tensor]]) -> None:
        """Gives parameters their place, with replica 0's values; collective.

        Args:
            call: who asks, for messages.
            named: tensors with their names, none of which has been added.

        Raises:
            ValueError: one cannot be trained here: another device, sparse, or no real floating-point numbers.
            ReplicaMismatch: replicas have others.
        """
        engine = StepEngine.of(require_replica_context(call))
        try:
            new = [Parameter(tensor, name) for name, tensor in named]
        except Exception as error:
            engine.coordinator.broadcast_error(call, error)
            raise
        self._place(engine, call, new)
        self._known.update({id(parameter.tensor): parameter for parameter in new})

    def replace(self, call: str, parameters: Sequence[Parameter]) -> list[Parameter]:
        """New ones for tensors that got another dtype, shape or layout; collective."""
        engine = StepEngine.of(require_replica_context(call))
        new = [Parameter(old.tensor, old.variable.name) for old in parameters]
        self._place(engine, call, new)
        self._known.update({id(parameter.tensor): parameter for parameter in new})
        return new

    def move(self, call: str, before: StepEngine, engine: StepEngine) -> None:
        """Moves all that ``before`` has placed to where ``engine`` makes steps, as they are; collective."""
        moved = [p for p in self if not before.parameters.released(p.variable)]
        before.parameters.release([parameter.variable for parameter in moved])
        for parameter in moved:
            own = parameter.array(parameter.tensor.detach().clone())
            parameter.variable.storage.adopt(own)
            parameter.place(own)
        self._place(engine, call, moved)

    def _place(self, engine: StepEngine, call: str, new: Sequence[Parameter]) -> None:
        if engine.replicas == 1:
            for parameter in new:
                parameter.place_in_own_memory()
            return
        variables = [parameter.variable for parameter in new]
        for variable in variables:
            variable.storage.copy_on_write = True
        engine.share(call, variables)
        for parameter in new:
            parameter.place(engine.parameters.private_view(parameter.variable))

    # -- around a step
    def take_edits(self, engine: StepEngine) -> list[Parameter]:
        """Takes what the program has written for assignments, which replicas compare in the step.

        Returns:
            parameters of another dtype, shape or layout than before, which have to be replaced.
        """
        moved = [parameter for parameter in self._known.values() if not parameter.is_placed()]
        changed = [parameter for parameter in moved if not parameter.fits()]
        same = [parameter for parameter in moved if parameter.fits()]
        if engine.replicas == 1:
            alone = [parameter for parameter in self._known.values() if parameter.variable.storage.shared]
            for parameter in (*same, *alone):
                parameter.place_in_own_memory()
            return changed
        for parameter in same:  # as if it had been written through the view, where equal values are no edit
            view = engine.parameters.private_view(parameter.variable)
            np.copyto(view, parameter.array(parameter.tensor))
            parameter.place(view)
        engine.parameters.take_edits([parameter.variable for parameter in self._known.values()])
        return changed

    def accept_edits(self, engine: StepEngine) -> None:
        """After a step: all see what it has made of the parameters, and nothing else."""
        if engine.replicas > 1:
            engine.parameters.discard_edits([parameter.variable for parameter in self._known.values()])
            for parameter in self._known.values():
                if not parameter.is_placed():
                    parameter.place(engine.parameters.private_view(parameter.variable))
        torch.autograd.graph.increment_version([parameter.tensor for parameter in self._known.values()])
