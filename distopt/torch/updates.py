"""GroupUpdates: runs distopt's step with PyTorch's update rules, with the options of each parameter group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from distopt.aggregators import Aggregator
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.engine.batch import GradientBatch
from distopt.engine.plan import Kind, PlanCache, StepPlan
from distopt.engine.step import StepEngine
from distopt.engine.trust_ratio import AnyRule
from distopt.optimizers import RuleOptimizer
from distopt.optimizers.example_weights import ExampleWeights, mean_by_default
from distopt.optimizers.optimizer import ApplyState
from distopt.torch.aggregation import aggregate_pairs
from distopt.torch.cohorts import Cohort, Cohorts
from distopt.torch.parameter import TensorVariable
from distopt.torch.rules.update_rule import ParameterUpdate, UpdateRule
from distopt.transforms import ClipMixedNorm
from distopt.typing import Shape, Transformer

__all__ = ["GroupUpdates"]

#: ``torch.nn.utils.clip_grad_norm_`` adds this to the norm before it divides by it.
_MARGIN = 1e-6


class GroupUpdates(RuleOptimizer):
    """A distopt optimizer that aggregates, clips and updates with PyTorch's arithmetic.

    Where other optimizers group variables by device and dtype, this one groups them by cohort and dtype, so
    that each cohort has its own rule and coefficients.

    Args:
        name: the optimizer's name, for messages.
        update: the update algorithm.
        groups: returns the current ``param_groups``.
        aggregator: see StepOptions. None is the mean over replicas.
        clip_norm: the largest norm of all gradients together, or None.
        clip_value: the largest absolute value of an element, or None.
        on_nonfinite: see Optimizer.

    Attributes:
        cohorts: the parameters of each group, divided by the number of steps that they have made.
        absent: the part of the call's name that lists the parameters without a gradient. Replicas compare it.
    """

    _step_call: ClassVar[str] = "step"

    def __init__(
        self,
        name: str,
        update: ParameterUpdate,
        groups: Callable[[], Sequence[MutableMapping[str, Any]]],
        aggregator: Any,
        clip_norm: float | None,
        clip_value: float | None,
        on_nonfinite: str,
    ) -> None:
        super().__init__(
            name,
            mean_by_default(aggregator),
            None,
            on_nonfinite=on_nonfinite,
            global_clipnorm=clip_norm,
            clipvalue=clip_value,
        )
        if self._clip is not None:
            self._clip = replace(self._clip, margin=_MARGIN)
        self._update_rule, self._groups = update, groups
        self.cohorts = Cohorts()
        self._plans = PlanCache(self._kind)
        self._looked_for_means = True  # turns off the warning that losses which are means are summed
        self._weights = ExampleWeights("step", self.gradient_aggregator)
        self.absent = ""

    # -- a step
    def weigh(self, examples: int | None) -> None:
        """Sets the weight of this replica, before :meth:`step` or :meth:`aggregate`.

        Args:
            examples: the number of examples over which this replica averaged its gradients; None for equal
                weights.

        Raises:
            ValueError: ``examples`` is not a count, or the aggregator is not a mean.
        """
        self._weights.weigh(examples)

    def step(self, pairs: Sequence[tuple[Any, Variable]], aggregate: bool) -> bool:
        """Makes one step; collective.

        Args:
            pairs: (gradient, variable), without None, each variable once.
            aggregate: False if the gradients are already aggregated.

        Returns:
            Whether the step was made; False if ``on_nonfinite`` skipped it. The same on all replicas.
        """
        if self.cohorts.join([variable for _, variable in pairs]):
            self._plans.clear()
        made = self._steps_made()
        self.apply_gradients(pairs, experimental_aggregate_gradients=aggregate)
        return self._steps_made() > made

    def aggregate(self, pairs: Sequence[tuple[Any, Variable]]) -> dict[Variable, Any]:
        """Returns the gradients aggregated over replicas, by variable; collective."""
        call = f"aggregate of {self._name}{self._weights.text}{self.absent}"
        return aggregate_pairs(call, pairs, self.gradient_aggregator, self._steps_before())

    def _call(self) -> str:
        return super()._call() + self._weights.text + self.absent

    def check_absence(self, engine: StepEngine) -> None:
        """Checks that no replica has any gradient in this step, if this replica has none; collective.

        Raises:
            ReplicaMismatch: another replica has gradients.
        """
        engine.coordinator.check(self._call(), [])

    def _check_and_prepare(
        self, engine: StepEngine | None, grads_and_vars: Any
    ) -> tuple[GradientBatch, StepPlan, ApplyState]:
        groups = self._groups()
        for gradient, variable in grads_and_vars:
            group = groups[self.cohorts.of(variable).group]
            self._update_rule.check_gradient(group, isinstance(gradient, IndexedSlices))
        return super()._check_and_prepare(engine, grads_and_vars)

    def _steps_before(self) -> int:
        return max(self.cohorts.most_steps(), self._steps_made())

    def _are_alike(self, engine: StepEngine, variables: Sequence[Variable]) -> bool:
        return True  # step() without aggregation follows aggregate(), whose results are the same on all

    def _global_clip(self, limit: float) -> Transformer:
        return ClipMixedNorm(limit, _MARGIN)

    # -- coefficients: the "device" in a variable's kind is its cohort
    def _kind(self, variable: Variable) -> Kind:
        return self.cohorts.of(variable), variable.dtype

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        cohort: Cohort = var_device
        group = self._groups()[cohort.group]
        after = self._update_rule.advanced(group, cohort.scalars)
        apply_state[cohort, var_dtype].update(self._update_rule.coefficients(group, after))

    def _step_rule(
        self, device: Any, dtype: np.dtype[Any], apply_state: ApplyState | None
    ) -> tuple[AnyRule, tuple[Any, ...]]:
        cohort: Cohort = device
        update = self._update_rule
        assert isinstance(update, UpdateRule)
        rule, values = update.rule(self._groups()[cohort.group]), (apply_state or {})[cohort, dtype]
        scalar = rule.arithmetic_dtype(dtype).type
        return rule, tuple([scalar(values[name]) for name in rule.coefficients])

    def _finish_step(self, apply_state: ApplyState) -> None:
        groups = self._groups()
        for cohort in {kind[0]: None for kind in apply_state}:
            assert isinstance(cohort, Cohort)
            cohort.scalars = self._update_rule.advanced(groups[cohort.group], cohort.scalars)
        for group in groups:
            self._update_rule.finish(group)

    def _rule(self, coefficients: Mapping[str, Any]) -> AnyRule:
        raise NotImplementedError("each group has its own")

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        raise NotImplementedError("each group has its own")

    # -- slots
    def make_slots(self, variables: Sequence[Variable], also: Iterable[str] = ()) -> None:
        """Creates missing slots of the variables.

        Args:
            variables: TensorVariables.
            also: names of slots to create in addition to those that the variables' groups need.
        """
        with self._slots.prefixed():
            for variable in variables:
                own = self._slots.of(variable)
                assert isinstance(variable, TensorVariable)
                axes = variable.axes
                shapes: dict[str, Shape | None] = {**self.slot_shapes(variable)}
                for slot in also:
                    shapes.setdefault(slot)
                for slot, shape in shapes.items():
                    if slot not in own:
                        value = self.initial(variable, slot)
                        initializer = partial(_filled, value) if value else "zeros"
                        permuted = None if shape is None else tuple([shape[axis] for axis in axes])
                        self._slots.add(variable, slot, initializer, permuted)

    def slot_shapes(self, variable: Variable) -> dict[str, Shape]:
        """The slots that the variable's group needs, with their shapes in the order of the tensor's axes."""
        assert isinstance(variable, TensorVariable)
        shape = [size for _, size in sorted(zip(variable.axes, variable.shape, strict=True))]
        return self._update_rule.slot_shapes(self._group_of(variable), tuple(shape))

    def _group_of(self, variable: Variable) -> Mapping[str, Any]:
        return self._groups()[self.cohorts.of(variable).group]

    def slots(self, variable: Variable) -> dict[str, Variable]:
        """The slots of a variable by name."""
        return self._slots.of(variable)

    def initial(self, variable: Variable, slot: str) -> float:
        """The initial value of all elements of a slot."""
        return self._update_rule.initial(self._group_of(variable), slot)

    def forget_plans(self) -> None:
        """Discards cached plans, which depend on the cohorts. Call it after changing the cohorts."""
        self._plans.clear()

    def build_aggregator(self, variables: Sequence[Variable]) -> None:
        """Creates the aggregator's state before the first step, so that a checkpoint can be restored."""
        if isinstance(self.gradient_aggregator, Aggregator):
            self.gradient_aggregator.build(variables)

    def _create_slots(self, var_list: list[Variable]) -> None:
        self.make_slots(var_list)

    def _has_weights(self, plan: StepPlan) -> bool:
        build = getattr(type(self.gradient_aggregator), "build", None)
        return bool(plan.rules) and build in (None, Aggregator.build)

    def get_config(self) -> dict[str, Any]:
        """The options of the first group, for descriptions."""
        first = {
            key: value for key, value in self._groups()[0].items() if key not in ("params", "param_names")
        }
        return {
            **super().get_config(),
            **{key: str(value) for key, value in first.items() if value is not None},
        }

    def _title(self) -> str:
        return self._name


def _filled(value: float, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.full(shape, value, dtype)
