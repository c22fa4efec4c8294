"""Pipeline: one step of a PyTorch optimizer, from its gradients to the new parameters on all replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from distopt import distribute
from distopt.core.placement import placement
from distopt.distribute import ReplicaContext, require_replica_context
from distopt.engine.step import StepEngine
from distopt.torch.aggregation import any_skips, unscale
from distopt.torch.gradient_hooks import GradientHooks
from distopt.torch.gradient_watch import GradientWatch
from distopt.torch.gradients import GradientReader
from distopt.torch.names import module_of, names_in
from distopt.torch.parameter import Parameter
from distopt.torch.parameters import Parameters
from distopt.torch.rules.update_rule import ParameterUpdate
from distopt.torch.running_statistics import RunningStatistics
from distopt.torch.state import StateKeeper
from distopt.torch.updates import GroupUpdates
from distopt.torch.whole_updates import updates_of

__all__ = ["Pipeline"]


class Pipeline:
    """The parameters, the state and the step of one optimizer.

    Args:
        name: the optimizer's name, for messages.
        update: the update algorithm.
        groups: returns the current ``param_groups``.
        module: the model, if it is known.
        options: see ``StepOptions``.

    Attributes:
        updates: aggregates, clips and updates.
        keeper: makes ``optimizer.state``.
        gradient_watch: detects gradients that the program changed between ``backward()`` and the step.
    """

    def __init__(
        self,
        name: str,
        update: ParameterUpdate,
        groups: Callable[[], Sequence[MutableMapping[str, Any]]],
        module: torch.nn.Module | None,
        options: Mapping[str, Any],
    ) -> None:
        self._name, self._update, self._groups = name, update, groups
        self._names, self._module = names_in(module), module
        self._parameters = Parameters()
        self._reader = GradientReader(options.get("unused", "error"))
        self.updates: GroupUpdates = updates_of(update)(
            name,
            update,
            groups,
            options.get("aggregator"),
            options.get("clip_grad_norm"),
            options.get("clip_grad_value"),
            options.get("on_nonfinite", "propagate"),
        )
        self.gradient_watch = GradientWatch(name)
        self.keeper = StateKeeper(self._parameters, self.updates, update, self._tensors)
        self._hooks: GradientHooks | None = None
        self._statistics = RunningStatistics()
        #: ``placement().moves`` after the last step: if it is still the same, no variable was assigned.
        self._moves = -1

    def _tensors(self) -> Iterator[torch.Tensor]:
        return (tensor for group in self._groups() for tensor in group["params"])

    # -- parameters
    @property
    def module(self) -> torch.nn.Module | None:
        """The model, if it is known."""
        return self._module

    def add_parameters(self) -> None:
        """Adds the groups' new parameters, with replica 0's values. Collective if there are any."""
        known, number = self._parameters, len(self._parameters)
        added = [(i, new) for i, g in enumerate(self._groups()) if (new := known.lacking(g["params"]))]
        if not added:
            return
        for group in self._groups():
            self._names.update(zip(map(id, group["params"]), group.get("param_names", ()), strict=False))
        self._learn_names()
        tensors = [tensor for _, new in added for tensor in new]
        named = [(self._names.get(id(t), f"parameter {i}"), t) for i, t in enumerate(tensors, number)]
        known.add(f"{self._name}()", named)
        for place, new in added:
            self.updates.cohorts.put([known.of(t).variable for t in new], place, self._update.scalars)
        self.updates.build_aggregator([known.of(t).variable for t in tensors if t.requires_grad])
        self._statistics.take_in(list(self._tensors()), self._module)
        engine = StepEngine.of(require_replica_context(self._name))
        if engine.replicas > 1:
            self.gradient_watch.begin(self._tensors())
        overlap = engine.overlap(self.updates)
        if overlap is not None:
            self._hooks = self._hooks or GradientHooks(overlap, known.of)
            self._hooks.register(tensors)

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, in the order in which they were added."""
        return list(self._parameters)

    def move(self, before: StepEngine, context: ReplicaContext) -> None:
        """Moves the parameters to the replicas that make the following steps together. Collective among them.

        Args:
            before: the engine that placed the parameters.
            context: this replica's context among those replicas; nothing moves if it is that of the job.
        """
        if context is context.job:
            return
        with distribute.within_node(context.job):
            self._parameters.move(f"{self._name}()", before, StepEngine.of(context))

    def settle(self) -> None:
        """Applies what the program changed since the last step, without making a step. Collective."""
        engine = self.prepare()
        self._settle(engine, [])
        self._parameters.accept_edits(engine)

    def average_statistics(self) -> None:
        """Averages the running statistics of batch norms over replicas; collective."""
        self._statistics.average()

    def _learn_names(self) -> None:
        """Finds the model, for the names of parameters, if some have none yet."""
        if self._module is None and any(id(tensor) not in self._names for tensor in self._tensors()):
            self._module = module_of(self._tensors())
            self._names = names_in(self._module) | self._names

    # -- a step
    def error_barrier(self, call: str, context: ReplicaContext) -> AbstractContextManager[None]:
        """A ``with`` block before the collective ``call``: errors in it end the call on all replicas."""
        return StepEngine.of(context).coordinator.error_barrier(f"{call} of {self._name}")

    def prepare(self) -> StepEngine:
        """Applies what the program changed since the last step: new parameters, written values, the state.

        Collective if there are new parameters, or some of another dtype, shape or layout.

        Returns:
            The engine of this replica, for the step.
        """
        self.add_parameters()
        engine = StepEngine.of(require_replica_context(f"step() of {self._name}"))
        changed = self._parameters.take_edits(engine)
        if changed:
            self._replace(engine, changed)
        self.keeper.take_in(engine.parameters)
        return engine

    def pairs(self, engine: StepEngine) -> list[tuple[Any, Any]]:
        """Returns (gradient, variable) for each parameter with a gradient.

        Collective with ``unused="zero"``, where parameters that have a gradient on other replicas only get
        zeros.
        """
        parameters = list(map(self._parameters.of, self._tensors()))
        found = self._reader.pairs(engine, f"step of {self._name}", parameters)
        self.updates.absent = self._reader.absent + self._statistics.description()
        return found

    def step(
        self,
        examples: int | None,
        aggregate: bool,
        scale: torch.Tensor | None,
        found_inf: torch.Tensor | None,
    ) -> None:
        """Makes one step; collective.

        Args:
            examples: the number of examples of this replica, which weights its gradients; None for equal
                weights.
            aggregate: False if the gradients are already aggregated.
            scale: ``grad_scale`` of a GradScaler, shape (): the gradients are divided by it. None without
                one.
            found_inf: its ``found_inf``, shape (): above 0 if a gradient of this replica is not finite. All
                replicas skip the step if it is above 0 on any.
        """
        engine = self.prepare()
        with engine.coordinator.error_barrier(f"step of {self._name}"):
            self.updates.weigh(examples)
            if aggregate:
                self.gradient_watch.check()
        if found_inf is not None:
            if examples == 0:  # a mean over no examples is NaN, but has weight 0: no reason to skip the step
                found_inf = torch.zeros_like(found_inf)
            if any_skips(engine, f"step of {self._name}", found_inf):
                return
            if scale is not None:
                unscale([tensor.grad for tensor in self._tensors() if tensor.grad is not None], scale)
        pairs = self.pairs(engine)
        self._settle(engine, [variable for _, variable in pairs])
        if pairs:
            self.updates.step(pairs, aggregate)
        else:
            self.updates.check_absence(engine)
        self._statistics.average()
        self.gradient_watch.forget()
        self._parameters.accept_edits(engine)
        self.keeper.stepped()
        if self._hooks is not None:
            self._hooks.stepped()
        self._moves = placement().moves

    def aggregate(self, examples: int | None) -> None:
        """Replaces the gradients of this replica with the aggregated gradients of all replicas."""
        engine = self.prepare()
        with engine.coordinator.error_barrier(f"aggregate of {self._name}"):
            self.updates.weigh(examples)
            self.gradient_watch.check()
        totals = self.updates.aggregate(self.pairs(engine))
        for parameter in map(self._parameters.of, self._tensors()):
            total = totals.get(parameter.variable)
            if total is not None:
                parameter.set_gradient(total)

    def _settle(self, engine: StepEngine, stepped: Sequence[Any]) -> None:
        """Shares values that the program assigned to parameters outside this step, and to their slots.

        Those of the step's own parameters are shared in the step. Collective if there are any.

        Args:
            engine: that of the step.
            stepped: the variables of the step.
        """
        if engine.replicas == 1 or placement().moves == self._moves:
            return
        in_step = set(map(id, stepped))
        others = [p.variable for p in self._parameters if id(p.variable) not in in_step]
        slots = [slot for variable in others for slot in self.updates.slots(variable).values()]
        assigned = engine.parameters.assigned([*others, *slots])
        if assigned:
            engine.share(f"values given to parameters of {self._name}", assigned)

    def _replace(self, engine: StepEngine, changed: Sequence[Parameter]) -> None:
        """Replaces parameters whose dtype, shape or layout has changed, and casts their state. Collective."""
        states = [self.keeper.shown(parameter) for parameter in changed]
        new = self._parameters.replace(f"parameters of {self._name} of another dtype or layout", changed)
        for before, after in zip(changed, new, strict=True):
            cohort = self.updates.cohorts.remove(before.variable)
            self.updates.cohorts.put([after.variable], cohort.group, cohort.scalars)
        self.keeper.restore(engine.parameters, zip(new, states, strict=True))
