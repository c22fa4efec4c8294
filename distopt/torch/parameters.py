"""Parameters: the memory of an optimizer's parameters, and values that the program writes between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from distopt.distribute import require_replica_context
from distopt.engine.step import StepEngine
from distopt.torch.parameter import Parameter

__all__ = ["Parameters"]


class Parameters:
    """The parameters of one optimizer, by tensor.

    With several replicas, parameters are in shared memory of the node. Each replica's tensor is a private,
    copy-on-write view: what the program writes to it stays private until the next step, which requires that
    all replicas have written the same values.
    """

    def __init__(self) -> None:
        #: By id of the tensor. A Parameter keeps its tensor alive, so that no other object gets the same id.
        self._known: dict[int, Parameter] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._known.values())

    def of(self, tensor: torch.Tensor) -> Parameter:
        """The parameter of a tensor; KeyError if it has not been added."""
        return self._known[id(tensor)]

    def lacking(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Returns those of ``tensors`` that have not been added."""
        return [tensor for tensor in tensors if id(tensor) not in self._known]

    def add(self, call: str, named: Sequence[tuple[str, torch.Tensor]]) -> None:
        """Adds parameters: moves them to shared memory, with replica 0's values. Collective.

        Args:
            call: the caller, for messages.
            named: (name, tensor), none of which has been added.

        Raises:
            ValueError: a tensor is not on the CPU, is sparse, or does not hold real floating-point numbers.
            ReplicaMismatch: replicas add different parameters.
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
        """Replaces parameters whose tensors now have another dtype, shape or layout. Collective.

        Returns:
            The new ones, in the same order.
        """
        engine = StepEngine.of(require_replica_context(call))
        new = [Parameter(old.tensor, old.variable.name) for old in parameters]
        self._place(engine, call, new)
        self._known.update({id(parameter.tensor): parameter for parameter in new})
        return new

    def move(self, call: str, before: StepEngine, engine: StepEngine) -> None:
        """Moves the parameters from one engine's shared memory to another's; collective among its replicas.

        Args:
            call: the caller, for messages.
            before: the engine that placed them. Parameters that it has already released stay where they are.
            engine: the engine of the following steps, such as that of one node. Its replica 0 gives the
                values.
        """
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
        """Before a step: registers values that the program wrote to tensors as assignments to the variables.

        The step then compares them over replicas. A tensor whose memory the program replaced, as by ``p.data
        = x``, is copied to its view in shared memory first.

        Returns:
            Parameters whose tensors have another dtype, shape or layout than before: pass them to
            :meth:`replace`.
        """
        moved = [parameter for parameter in self._known.values() if not parameter.is_placed()]
        changed = [parameter for parameter in moved if not parameter.fits()]
        same = [parameter for parameter in moved if parameter.fits()]
        if engine.replicas == 1:
            alone = [parameter for parameter in self._known.values() if parameter.variable.storage.shared]
            for parameter in (*same, *alone):
                parameter.place_in_own_memory()
            return changed
        for parameter in same:  # written through the view, where only values that differ count as an edit
            view = engine.parameters.private_view(parameter.variable)
            np.copyto(view, parameter.array(parameter.tensor))
            parameter.place(view)
        engine.parameters.take_edits([parameter.variable for parameter in self._known.values()])
        return changed

    def accept_edits(self, engine: StepEngine) -> None:
        """After a step: all tensors show the values of the step, without private edits."""
        if engine.replicas > 1:
            engine.parameters.discard_edits([parameter.variable for parameter in self._known.values()])
            for parameter in self._known.values():
                if not parameter.is_placed():
                    parameter.place(engine.parameters.private_view(parameter.variable))
        torch.autograd.graph.increment_version([parameter.tensor for parameter in self._known.values()])
