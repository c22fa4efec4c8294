"""TreeUpdates: runs distopt's step with optax's update rules, on the trained leaves of a pytree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from distopt.aggregators import Aggregator
from distopt.core.variable import Variable
from distopt.engine.plan import Kind, PlanCache, StepPlan
from distopt.engine.step import StepEngine
from distopt.engine.trust_ratio import AnyRule
from distopt.jax.rates import value_at
from distopt.jax.rules.leaf_rule import LeafRule, LeafUpdate
from distopt.optimizers import RuleOptimizer
from distopt.optimizers.example_weights import ExampleWeights, mean_by_default
from distopt.optimizers.optimizer import ApplyState
from distopt.transforms import ClipMixedNorm
from distopt.typing import Array, Transformer

__all__ = ["LeafTraits", "TreeUpdates"]


class LeafTraits(NamedTuple):
    """How a leaf is updated. Leaves with the same traits and dtype have the same coefficients.

    Attributes:
        decays: whether weight decay applies to it.
        adapts: whether it has a trust ratio, if the algorithm uses them.
        rule: the algorithm of this leaf; None for that of the optimizer.
    """

    decays: bool = False
    adapts: bool = True
    rule: LeafUpdate | None = None


class TreeUpdates(RuleOptimizer):
    """A distopt optimizer that aggregates, clips and updates with optax's arithmetic.

    Where other optimizers group variables by device and dtype, this one groups them by traits and dtype.

    Args:
        name: the optimizer's name, for messages.
        rule: the update algorithm.
        rates: returns the learning rate and the weight decay. Each is a number or a function of the number of
            steps made.
        traits: the traits of each variable.
        options: see ``ApplyOptions``.
    """

    _step_call: ClassVar[str] = "apply"

    def __init__(
        self,
        name: str,
        rule: LeafUpdate,
        rates: Callable[[], tuple[Any, Any]],
        traits: Mapping[Variable, LeafTraits],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(
            name,
            mean_by_default(options.get("aggregator")),
            None,
            on_nonfinite=options.get("on_nonfinite", "propagate"),
            global_clipnorm=options.get("clip_by_global_norm"),
            clipvalue=options.get("clip"),
        )
        self._leaf_rule, self._rates = rule, rates
        self._traits = {id(variable): own for variable, own in traits.items()}
        self._plans = PlanCache(self._kind)
        self._looked_for_means = True  # turns off the warning that losses which are means are summed
        self._weights = ExampleWeights("apply", self.gradient_aggregator)
        #: The learning rate and the weight decay of this step.
        self._current_rates = 0.0, 0.0
        self._absent = ""

    def prepare(self, absent: str, examples: int | None) -> None:
        """Prepares a step, which ``apply_gradients`` makes.

        Args:
            absent: the names of leaves without a gradient, or "". Replicas compare it.
            examples: the number of examples over which this replica averaged its gradients; None for equal
                weights.

        Raises:
            ValueError: ``examples`` is not a count, or the aggregator is not a mean.
        """
        self._weights.weigh(examples)
        self._absent = f", without a gradient of {absent}" if absent else ""
        made = self._steps_made()
        rate, decay = self._rates()
        self._current_rates = value_at(rate, made, "learning_rate"), value_at(decay, made, "weight_decay")

    def _call(self) -> str:
        return super()._call() + self._weights.text + self._absent

    def _are_alike(self, engine: StepEngine, variables: Sequence[Variable]) -> bool:
        return True

    def _global_clip(self, limit: float) -> Transformer:
        return ClipMixedNorm(limit)

    # -- coefficients: the "device" in a variable's kind is its traits
    def _kind(self, variable: Variable) -> Kind:
        return self._traits[id(variable)], variable.dtype

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        rate, decay = self._current_rates
        assert isinstance(var_device, LeafTraits)
        rule = var_device.rule or self._leaf_rule
        values = rule.coefficients(rate, decay if var_device.decays else 0.0, self._steps_made() + 1)
        if not var_device.adapts:
            values = rule.not_adapted(values)
        apply_state[var_device, var_dtype].update(values)

    def _step_rule(
        self, device: Any, dtype: np.dtype[Any], apply_state: ApplyState | None
    ) -> tuple[AnyRule, tuple[Any, ...]]:
        own, values = device.rule or self._leaf_rule, (apply_state or {})[device, dtype]
        assert isinstance(own, LeafRule)
        rule = own.rule()
        scalar = rule.arithmetic_dtype(dtype).type
        return rule, tuple([scalar(values[name]) for name in rule.coefficients])

    def _rule_of(self, variable: Variable) -> LeafUpdate:
        return self._traits[id(variable)].rule or self._leaf_rule

    def _rule(self, coefficients: Mapping[str, Any]) -> AnyRule:
        assert isinstance(self._leaf_rule, LeafRule)
        return self._leaf_rule.rule()

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        raise NotImplementedError("they depend on the step, see _prepare_local")

    # -- slots
    def _create_slots(self, var_list: list[Variable]) -> None:
        with self._slots.prefixed():
            for variable in var_list:
                rule = self._rule_of(variable)
                for slot, shape in rule.slot_shapes(variable.shape).items():
                    value = rule.initial(slot)
                    self._slots.add(variable, slot, partial(_filled, value) if value else "zeros", shape)

    def make_slots(self, variables: list[Variable]) -> None:
        """Creates the step count and all slots, so that the state exists before the first step."""
        _ = self.iterations
        self._create_slots(variables)

    def slots(self, variable: Variable) -> dict[str, Variable]:
        """The slots of a variable by name."""
        return self._slots.of(variable)

    @property
    def scalars(self) -> dict[str, float]:
        """The numbers of the state that all leaves share, besides the step count; {} for most algorithms."""
        return {}

    def set_scalars(self, values: Mapping[str, float]) -> None:
        """Restores the numbers of :attr:`scalars`."""

    def build_aggregator(self, variables: Sequence[Variable]) -> None:
        """Creates the aggregator's state before the first step, so that a checkpoint can be restored."""
        if isinstance(self.gradient_aggregator, Aggregator):
            self.gradient_aggregator.build(variables)

    def means(self, variables: Sequence[Variable]) -> list[Array]:
        """Returns for each variable the values for evaluation, if they differ from those in training.

        Raises:
            TypeError: the algorithm is not schedule-free.
        """
        raise TypeError(f"{self._name} has no separate parameters for evaluation")

    def _has_weights(self, plan: StepPlan) -> bool:
        build = getattr(type(self.gradient_aggregator), "build", None)
        return bool(plan.rules) and build in (None, Aggregator.build)

    # -- description
    def get_config(self) -> dict[str, Any]:
        """The current options, for descriptions."""
        rate, decay = self._rates()
        own = {field.name: getattr(self._leaf_rule, field.name) for field in fields(self._leaf_rule)}  # type: ignore[arg-type]
        decays = any(traits.decays for traits in self._traits.values())
        numbers = {"learning_rate": rate, **own, **({"weight_decay": decay} if decays else {})}
        texts = {name: _text(value) for name, value in numbers.items() if value is not None}
        return {**super().get_config(), **texts}

    def _title(self) -> str:
        return self._name


def _text(value: Any) -> str:
    return "schedule" if callable(value) else str(value)


def _filled(value: float, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.full(shape, value, dtype)
