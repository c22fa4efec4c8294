"""DistributedOptimizer: any other optimizer of PyTorch, with the gradients of all replicas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch

from distopt import aggregators
from distopt.distribute import collective_call, require_replica_context
from distopt.engine.step import StepEngine
from distopt.torch.aggregation import aggregate_pairs, any_skips, unscale
from distopt.torch.eager import eager
from distopt.torch.names import names_in
from distopt.torch.optimizer import Optimizer
from distopt.torch.parameter import Parameter
from distopt.torch.running_statistics import RunningStatistics

__all__ = ["DistributedOptimizer"]

_O = TypeVar("_O", bound=torch.optim.Optimizer)


def DistributedOptimizer(  # noqa: N802  # the name that users of Horovod know
    optimizer: _O, model: torch.nn.Module | None = None, aggregator: Any = "mean"
) -> _O:
    """Returns an optimizer of the same class and state whose step() aggregates gradients over all replicas.

    Use it for optimizers that this package does not have, such as LBFGS or those of other packages. Each
    replica keeps its own copy of parameters and state. All replicas start with replica 0's parameters and
    make the same steps. The optimizers of this package take less time and memory.

    Args:
        optimizer: the optimizer that makes the update. Do not use it directly afterwards.
        model: the model, which gives parameters their names in messages. With None they are numbered. In both
            cases its buffers get replica 0's values, and running statistics of batch norms are averaged in
            each step.
        aggregator: combines the gradients of all replicas. See StepOptions.

    Returns:
        The optimizer. The loss that a closure returns becomes the mean over replicas.

    Raises:
        TypeError: ``optimizer`` is not an optimizer of PyTorch, or already aggregates gradients.
        ValueError: a scheduler has already been created for it.
    """
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, (Optimizer, _Aggregating)):
        raise TypeError(
            f"DistributedOptimizer takes an optimizer of PyTorch that does not aggregate gradients itself; "
            f"got {type(optimizer).__module__}.{type(optimizer).__qualname__}"
        )
    if "step" in vars(optimizer):
        raise ValueError(
            "step() of the optimizer has been replaced, as schedulers do: create the DistributedOptimizer "
            "first, then the scheduler for it"
        )
    kind: Any = type(optimizer)
    twin: Any = object.__new__(_aggregating(kind))
    twin.__dict__ = optimizer.__dict__
    twin._begin(model, aggregators.get(aggregator))
    return twin  # type: ignore[no-any-return]


class _Aggregating(torch.optim.Optimizer):
    """Mixin that DistributedOptimizer puts before the class of an optimizer in its bases."""

    _step_supports_amp_scaling = True  # step() decides with all replicas whether it is skipped

    def _begin(self, model: torch.nn.Module | None, aggregator: Callable[[Any], Any]) -> None:
        self._aggregator, self._names = aggregator, names_in(model)
        self._parameters: dict[int, Parameter] = {}
        self._aggregations = 0
        self._statistics, self._model = RunningStatistics(), model
        self._add_parameters()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, with the values of replica 0. Collective."""
        super().add_param_group(param_group)
        self._add_parameters()

    @eager
    @torch.no_grad()
    @collective_call
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the optimizer, with gradients aggregated over replicas; collective.

        Args:
            closure: recomputes the loss and its gradients. It may be called several times.
        """
        name = f"step of {type(self).__name__}{self._statistics.description()}"
        engine = StepEngine.of(require_replica_context(name))
        scaling: dict[str, Any] = {
            key: vars(self).pop(key) for key in ("grad_scale", "found_inf") if key in vars(self)
        }
        try:
            if scaling and any_skips(engine, name, scaling["found_inf"]):
                return None
            if (scale := scaling.get("grad_scale")) is not None:
                gradients = [p.tensor.grad for p in self._parameters.values()]
                unscale([gradient for gradient in gradients if gradient is not None], scale)
            if closure is None:
                self._aggregate(name)
                result = super().step()
            else:
                result = super().step(self._over_replicas(closure, name))
            self._statistics.average()
        finally:
            vars(self).update(scaling)  # the GradScaler deletes them itself
        if engine.counted(self):
            engine.coordinator.audit(name, [p.variable for p in self._in_place()], "")
        return result

    step.hooked = True  # type: ignore[attr-defined]  # PyTorch's hooks run around the optimizer's own step

    def _over_replicas(self, closure: Callable[[], Any], name: str) -> Callable[[], Any]:
        """A closure that also aggregates the gradients, and returns the mean of the losses over replicas."""

        def call() -> Any:
            with torch.enable_grad():
                loss = closure()
            with torch.no_grad():
                self._aggregate(name)
                if loss is None:
                    return None
                context = require_replica_context(name)
                total: Any = context.all_reduce("mean", float(loss))
                mean = total.numpy()
                return (
                    torch.as_tensor(mean, dtype=loss.dtype) if isinstance(loss, torch.Tensor) else float(mean)
                )

        return call

    def _aggregate(self, name: str) -> None:
        pairs = [(g, p.variable) for p in self._in_place() if (g := p.gradient()) is not None]
        totals = aggregate_pairs(name, pairs, self._aggregator, self._aggregations)
        self._aggregations += 1
        for parameter in self._parameters.values():
            if (total := totals.get(parameter.variable)) is not None:
                parameter.set_gradient(total)

    def _in_place(self) -> list[Parameter]:
        """All parameters. Variables of tensors whose memory the program replaced now share the new memory."""
        for parameter in self._parameters.values():
            if not parameter.is_placed():
                parameter.place_in_own_memory()
        return list(self._parameters.values())

    @collective_call
    def _add_parameters(self) -> None:
        tensors = [tensor for group in self.param_groups for tensor in group["params"]]
        new = [tensor for tensor in tensors if id(tensor) not in self._parameters]
        for tensor in new:
            name = self._names.get(id(tensor), f"parameter {len(self._parameters)}")
            parameter = self._parameters[id(tensor)] = Parameter(tensor, name)
            parameter.place_in_own_memory()
        context = require_replica_context(type(self).__name__)
        values: Any = context.broadcast([self._parameters[id(tensor)].variable for tensor in new])
        with torch.no_grad():
            for tensor, value in zip(new, values, strict=True):
                tensor.copy_(self._parameters[id(tensor)].tensor_of(value.numpy()))
        if isinstance(self._aggregator, aggregators.Aggregator):  # now, so that a checkpoint can be restored
            trained = [tensor for tensor in new if tensor.requires_grad]
            self._aggregator.build([self._parameters[id(tensor)].variable for tensor in trained])
        self._statistics.take_in(tensors, self._model)


@cache
def _aggregating(kind: type[torch.optim.Optimizer]) -> Any:
    """A subclass of ``kind`` whose step() aggregates gradients."""
    return type(kind.__name__, (_Aggregating, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})
