"""LocalRoundsOptimizer: each node makes some steps separately, then all nodes exchange the results."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from distopt import distribute
from distopt.aggregators import Mean, WeightedMean, label
from distopt.collectives import digest
from distopt.core.checks import as_count, shown
from distopt.distribute import ReplicaContext, collective_call, require_replica_context
from distopt.engine import fingerprint
from distopt.engine.shared_parameters import SharedParameters
from distopt.engine.step import StepEngine
from distopt.optimizers.local_rounds import common_start
from distopt.torch.eager import eager
from distopt.torch.optimizer import Optimizer
from distopt.torch.parameter import Parameter
from distopt.torch.tensors import as_array, as_tensor
from distopt.typing import Array

__all__ = ["LocalRoundsOptimizer"]


class LocalRoundsOptimizer(torch.optim.Optimizer, abc.ABC):
    """The base of optimizers whose nodes exchange something after every so many steps, not in each.

    Groups, state and learning rates are those of ``inner``. A subclass brings the nodes together at the end
    of a round. Where one is made, all parameters get replica 0's values; all replicas make it together.

    Args:
        inner: makes the steps of a node.
        every: the steps of a round.

    Raises:
        TypeError: ``inner`` is not an optimizer of this package.
        ValueError: ``inner`` does not take the mean, or ``every`` is below 1.
    """

    _step_supports_amp_scaling = True

    def __init__(self, inner: Optimizer, every: int) -> None:
        name = type(self).__name__
        _check(name, inner)
        self.every = as_count(every, "every")
        self.inner, self._made, self._steps = inner, False, 0
        self._loaded = False
        super().__init__(inner.param_groups, inner.defaults)
        self._made = True
        self._move()

    @collective_call
    def _move(self) -> None:
        context = require_replica_context(type(self).__name__)
        self.inner._pipeline.move(StepEngine.of(context), distribute.node_context(context))

    # -- a step
    @eager
    @torch.no_grad()
    @collective_call
    def step(self, closure: Callable[[], Any] | None = None, *, examples: int | None = None) -> Any:
        """Makes one step on this node. After the last step of a round, the nodes exchange. Collective.

        Args:
            closure: a function that recomputes the loss and its gradients.
            examples: see :meth:`Optimizer.step`. It weights the mean over the node.

        Returns:
            The result of the closure, which is this replica's loss. None without a closure.

        Raises:
            ReplicaMismatch: replicas of this node make different calls, or nodes do at the end of a round.
        """
        context = require_replica_context(f"step() of {type(self).__name__}")
        loss = None
        if closure is not None:
            barrier = self.inner._pipeline.error_barrier("step", distribute.node_context(context))
            with barrier, torch.enable_grad():
                loss = closure()
        if self._loaded:
            self._begin(context)
        # Of a GradScaler.
        scaling: dict[str, Any] = {k: vars(self)[k] for k in ("grad_scale", "found_inf") if k in vars(self)}
        vars(self.inner).update(scaling)
        try:
            with distribute.within_node(context):
                self.inner.step(examples=examples)
        finally:
            for name in scaling:
                vars(self.inner).pop(name, None)
        self._steps += 1
        if self._steps >= self.every:
            self._end_round(context)
        return loss

    @eager
    @torch.no_grad()
    @collective_call
    def exchange(self) -> None:
        """Ends the round now, so that all nodes have the same parameters. Collective.

        Does nothing if no step has been made since the last exchange.
        """
        context = require_replica_context(f"exchange() of {type(self).__name__}")
        if self._steps:
            with distribute.within_node(context):
                self.inner._pipeline.settle()
            self._end_round(context)

    @abc.abstractmethod
    def _exchange(
        self, context: ReplicaContext, parameters: list[Parameter], parts: SharedParameters
    ) -> list[Array]:
        """Brings the nodes together.

        Args:
            context: the replica in its job.
            parameters: all of them.
            parts: knows which part of each is this replica's.

        Returns:
            what these parts become; nothing if they stay as they are.
        """

    def _end_round(self, context: ReplicaContext) -> None:
        parameters = self.inner._pipeline.parameters
        variables = [parameter.variable for parameter in parameters]
        if context.num_replicas_in_sync > 1:
            call = f"exchange of {type(self).__name__} after {self._steps} steps"
            key = fingerprint.of_variables(variables) ^ digest(call)
            context.collective_check.check(call, key, lambda: fingerprint.sentence(call, variables))
        node = StepEngine.of(distribute.node_context(context))
        if values := self._exchange(context, parameters, node.parameters):
            node.parameters.store(variables, values)
            self.inner._pipeline.average_statistics()
            torch.autograd.graph.increment_version([parameter.tensor for parameter in parameters])
        self._steps = 0

    # -- what is the inner optimizer's
    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the inner optimizer."""
        return self.inner.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        if self._made:
            self.inner.param_groups = groups

    @property
    def state(self) -> Any:
        """The state of the inner optimizer on this node."""
        return self.inner.state

    @state.setter
    def state(self, state: Any) -> None:
        if self._made:
            self.inner.state = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, with the values of replica 0. Collective."""
        if self._made:
            self.inner.add_param_group(param_group)
            self._move()

    @eager
    def zero_grad(self, set_to_none: bool = True) -> None:
        """See ``torch.optim.Optimizer``."""
        self.inner.zero_grad(set_to_none)

    @eager
    @torch.no_grad()
    @collective_call
    def aggregate(self, *, examples: int | None = None) -> None:
        """Replaces the gradients of this replica with their mean over the node, for the next step."""
        with distribute.within_node(require_replica_context("aggregate()")):
            self.inner.aggregate(examples=examples)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """See :meth:`Optimizer.no_sync`."""
        with self.inner.no_sync():
            yield

    def state_dict(self) -> dict[str, Any]:
        """The state of this node. The states of other nodes differ until :meth:`exchange`."""
        return {"inner": self.inner.state_dict(), "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a result of :meth:`state_dict`. Call it on all replicas, with the state of their own node.

        If the replicas of a node load states of different nodes, the next step starts from the mean over all
        replicas.

        Raises:
            KeyError: the state is not that of such an optimizer.
        """
        steps = int(state_dict["steps"])
        self.inner.load_state_dict(state_dict["inner"])
        self._steps, self._loaded = steps, True

    def _begin(self, context: ReplicaContext) -> None:
        """Before the first step with a loaded state: replicas of a node must have the same."""
        state = [t for entry in self.state.values() for t in entry.values() if isinstance(t, torch.Tensor)]
        tensors = [*(parameter.tensor for parameter in self.inner._pipeline.parameters), *state]
        arrays = [as_array(tensor.detach().contiguous()) for tensor in tensors]
        values = common_start(context, f"step of {type(self).__name__}", arrays)
        for tensor, value in zip(tensors, values or [], strict=False):
            tensor.copy_(as_tensor(value).reshape(tensor.shape))
        self._loaded = False

    # -- description
    @abc.abstractmethod
    def _exchanged(self) -> str:
        """A description of what nodes exchange."""

    def describe(self) -> str:
        """Prints and returns the pipeline of a node, and what the nodes exchange when."""
        world = require_replica_context("describe()").world
        nodes = world.comm.size // world.node.size
        with distribute.within_node(require_replica_context("describe()")):
            text = self.inner._pipeline.updates.describe()
        where = f"on each of {nodes} nodes alone" if nodes > 1 else "on the one node"
        more = f"{where}; after every {self.every} steps: {self._exchanged()}"
        print(more)
        return f"{text}\n{more}"


def _check(wrapper: str, inner: Any) -> None:
    if not isinstance(inner, Optimizer):
        raise TypeError(
            f"{wrapper}: inner must be an optimizer of distopt.torch, such as SGD; got {shown(inner)}"
        )
    aggregator = inner._pipeline.updates.gradient_aggregator
    if not isinstance(aggregator, (Mean, WeightedMean)):
        raise ValueError(
            f"{wrapper}: a node's step must not depend on how many replicas it has, but the aggregator of "
            f"inner is {label(aggregator)}: leave it out to use the mean"
        )
