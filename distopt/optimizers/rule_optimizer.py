"""RuleOptimizer: an optimizer whose update is a compiled rule."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from distopt.aggregators import Aggregator
from distopt.core.checks import as_sequence
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.numbers import as_number
from distopt.core.tensor import TensorLike, as_array
from distopt.core.variable import Variable
from distopt.engine.batch import Gradient, GradientBatch
from distopt.engine.plan import StepPlan
from distopt.engine.reduction import FusedReduction
from distopt.engine.rule import DECAY, Sparse
from distopt.engine.sparse import densified
from distopt.engine.step import Coefficients, StepEngine
from distopt.engine.trust_ratio import AnyRule, decayed
from distopt.engine.update import update_variable
from distopt.optimizers.limits import FINITE, FRACTION, NOT_NEGATIVE, NOT_POSITIVE, Limit, within
from distopt.optimizers.optimizer import ApplyState, Optimizer
from distopt.optimizers.pairs import Pairs, batch_of
from distopt.optimizers.variable_factors import Factors

__all__ = [
    "DEFAULT_EPSILON",
    "RuleOptimizer",
    "epsilon_or_default",
    "not_negative",
    "with_step_count",
]

DEFAULT_EPSILON = 1e-7
_STAGES = ("_transform_unaggregated_gradients", "_aggregate_gradients", "_transform_gradients", "_update")
_UPDATES = ("_resource_apply_dense", "_resource_apply_sparse", "_resource_apply_sparse_duplicate_indices")
_HOOKS = (*_STAGES, *_UPDATES)
_MAKERS = ("_create_all_weights", "_create_slots")
_RATE = ("_decayed_lr",)


class RuleOptimizer(Optimizer):
    """The base of optimizers whose update is a :class:`~distopt.engine.rule.Rule`.

    A subclass returns the rule (``_rule``) and its coefficients for the current step (``_coefficients``).
    """

    _limits: ClassVar[Mapping[str, Limit]] = {
        **Optimizer._limits,
        **dict.fromkeys(("momentum", "rho", "beta_1", "beta_2"), FRACTION),
        **dict.fromkeys(("l1_regularization_strength", "l2_regularization_strength"), NOT_NEGATIVE),
        "learning_rate_power": NOT_POSITIVE,
        "beta": FINITE,
    }

    @property
    def epsilon(self) -> Any:
        """Keeps the divisor above zero; at least 0. Only optimizers that set it have this attribute."""
        return self._epsilon

    @epsilon.setter
    def epsilon(self, value: Any) -> None:
        self._epsilon = not_negative(value, f"epsilon of optimizer {self._name!r}")

    @abc.abstractmethod
    def _rule(self, coefficients: Mapping[str, Any]) -> AnyRule:
        """The rule that the attributes currently select.

        Args:
            coefficients: those of this step; empty if only the slots to create matter.
        """

    @abc.abstractmethod
    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The coefficients of the rule by name, as scalars of ``dtype``, computed in that dtype.

        Args:
            lr: the learning rate of this step, a scalar of ``dtype``.
            dtype: the dtype in which the rule computes: that of the variables, or float32 for a narrow one.
        """

    def _step_rule(
        self, device: Any, dtype: np.dtype[Any], apply_state: ApplyState | None
    ) -> tuple[AnyRule, tuple[Any, ...]]:
        """The rule and its coefficients for variables of one device and dtype, in the form that kernels take.

        Args:
            device: the device of the variables.
            dtype: their dtype.
            apply_state: the result of ``_prepare_step``; None to compute it now.
        """
        values = (apply_state or {}).get((device, dtype)) or self._fallback_apply_state(device, dtype)
        rule = self._rule(values)
        if DECAY in values:
            rule = decayed(rule)
        # Skips the call for most dtypes.
        computed = dtype if dtype.itemsize > 2 else rule.arithmetic_dtype(dtype)
        return rule, _scalars(map(values.__getitem__, rule.coefficients), computed)

    def _run_pipeline(
        self,
        engine: StepEngine,
        call: str,
        plan: StepPlan,
        batch: GradientBatch,
        apply_state: ApplyState,
        aggregate: bool,
    ) -> None:
        try:
            reduction = self._reduction(engine, plan, batch) if aggregate else None
            if reduction is not None:
                made = self._with_rules(plan, batch, apply_state)
        except Exception as error:
            engine.coordinator.broadcast_error(call, error)
            raise
        if reduction is not None:
            overlap = engine.overlap(self)
            if engine.step(call, *made, reduction, self._clip, overlap):
                return
        super()._run_pipeline(engine, call, plan, batch, apply_state, aggregate)

    def _reduction(self, engine: StepEngine, plan: StepPlan, batch: GradientBatch) -> FusedReduction | None:
        """The reduction with which the engine can make the whole step in one pass; None if it cannot.

        It cannot if a stage is code of the user, if a clip needs the norm of gradients of several dtypes, if
        both norms are clipped, or if compiled code does not support a dtype: complex numbers, and float16 and
        bfloat16, whose means are summed in float32, and which a rule may round after each operation.
        """
        reduce = getattr(self.gradient_aggregator, "reduction", None)
        clip = self._clip
        if (
            reduce is None
            or self.gradient_transformers
            or not (plan.distinct and plan.compiled)
            or (clip is not None and clip.needs_norms and len(set(plan.dtypes)) > 1)
            or (clip is not None and None not in (clip.norm, clip.global_norm))
            or self._overrides(RuleOptimizer, _HOOKS)
            or engine.released(batch.variables)
        ):
            return None
        found: FusedReduction | None = reduce()
        return found

    def _apply(
        self, engine: StepEngine, call: str, pairs: Pairs, apply_state: ApplyState, alone: bool
    ) -> None:
        if self._overrides(RuleOptimizer, _UPDATES):
            super()._apply(engine, call, pairs, apply_state, alone)
            return
        batch = batch_of(pairs)
        if alone:
            plan = self._plans.find(engine, batch.variables)
            engine.apply_alone(*self._with_rules(plan, batch, apply_state))
            return
        rounds = [(self._plans.find(engine, part.variables), part) for part in batch.rounds()]
        engine.apply(call, [self._with_rules(plan, part, apply_state) for plan, part in rounds])

    def _with_rules(
        self, plan: StepPlan, batch: GradientBatch, apply_state: ApplyState
    ) -> tuple[StepPlan, GradientBatch, Coefficients]:
        """The plan with the current rules, the batch, and the coefficients of the rules."""
        found = [self._step_rule(*kind, apply_state) for kind in plan.kinds]
        rules, coefficients = zip(*found, strict=True) if found else ((), ())
        if plan.rules != rules:
            with self._slots.prefixed():
                self._create_slots(list(batch.variables))  # another rule may need other slots
            names = [rules[kind].slots for kind in plan.which]
            slots = self._slots.by_name(batch.variables, names)
            averages = () if self._average is None else self._average.of(self, batch.variables)
            plan.set_rules(batch.variables, rules, slots, averages)
        if batch.sparse:
            batch = _with_dense(batch, [rules[kind].sparse is Sparse.DENSE for kind in plan.which])
            plan = plan.with_sparse(batch.variables, batch.sparse)
        return plan, batch, coefficients

    def _has_weights(self, plan: StepPlan) -> bool:
        """See Optimizer. If a plan has rules, it has their slots."""
        build = getattr(type(self.gradient_aggregator), "build", None)
        made = build in (None, Aggregator.build) and not self._overrides(RuleOptimizer, _MAKERS)
        return made and bool(plan.rules)

    def _create_slots(self, var_list: list[Variable]) -> None:
        names = self._rule({}).slots
        new = self._slots.lacking(var_list, names)
        for slot in names:
            for variable in new:
                self.add_slot(variable, slot)

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        values, own = apply_state[var_device, var_dtype], np.dtype(var_dtype)
        dtype = own if own.itemsize > 2 else self._rule({}).arithmetic_dtype(own)
        plain = type(self._hypers.values["learning_rate"]) is Variable and self._initial_decay == 0
        if plain and not self._overrides(Optimizer, _RATE):
            values["lr_t"] = self._scalar("learning_rate", dtype)  # the fast path for the common case
        else:
            self._hypers.check()
            values["lr_t"] = self._decayed_lr(dtype)
        if type(var_device) is Factors:
            values["lr_t"] = _scalar(values["lr_t"], dtype) * dtype.type(var_device.learning_rate)
        with np.errstate(all="ignore"):
            values.update(self._coefficients(_scalar(values["lr_t"], dtype), dtype))

    def _check_hypers(self) -> None:
        """See Optimizer. Here each hyperparameter is checked where it is read."""

    def _scalar(self, name: str, dtype: np.dtype[Any]) -> Any:
        """The hyperparameter ``name`` as a scalar of ``dtype``."""
        value = self._hypers.values[name]
        if type(value) is not Variable:
            return self._get_hyper(name, dtype).numpy()
        number, limit = value.scalar(), self._limits.get(name)  # the fast path for the common case
        if limit is not None and not limit[0] <= number.item() <= limit[1]:
            # Raises ValueError: the program assigned the number.
            self._hypers.allowed(name, number, np.float64)
        return number if type(number) is dtype.type else dtype.type(number)

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        self._apply_rule(np.ascontiguousarray(as_array(grad)), handle, apply_state)

    def _resource_apply_sparse(
        self, grad: Any, handle: Variable, indices: Any, apply_state: ApplyState | None = None
    ) -> None:
        self._apply_rule(IndexedSlices(grad, indices), handle, apply_state)

    def _apply_rule(self, gradient: Gradient, variable: Variable, apply_state: ApplyState | None) -> None:
        rule, coefficients = self._step_rule(variable.device, variable.dtype, apply_state)
        slots = [self.get_slot(variable, name) for name in rule.slots]
        update_variable(rule, (variable, *slots), gradient, coefficients)


def _with_dense(batch: GradientBatch, dense: Sequence[bool]) -> GradientBatch:
    """The batch, with dense gradients for the variables that need them."""
    if not any(dense[i] for i in batch.sparse):
        return batch
    pairs = zip(batch.variables, batch.gradients, dense, strict=True)
    return batch.with_gradients([densified(g, v.shape) if asked else g for v, g, asked in pairs])


def _scalars(values: Iterable[Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    found = tuple(values)
    if set(map(type, found)) <= {dtype.type}:  # the fast path for the common case
        return found
    return tuple([_scalar(value, dtype) for value in found])


def _scalar(value: Any, dtype: np.dtype[Any]) -> Any:
    scalar = value if type(value) is dtype.type else as_array(value)[()]
    return scalar if type(scalar) is dtype.type else dtype.type(scalar)


def epsilon_or_default(value: Any) -> Any:
    """Returns ``value``, or 1e-7 for None and 0; TypeError if it is not a number."""
    if value is None or not as_number(value, "epsilon"):
        return DEFAULT_EPSILON
    return float(value) if isinstance(value, TensorLike) else value


def not_negative(value: Any, name: str) -> Any:
    """Returns ``value``; an error if it is not a number, not finite, or negative."""
    return within(NOT_NEGATIVE, value, name)


def with_step_count(weights: Sequence[Any], expected: int) -> Sequence[Any]:
    """Returns ``weights``, with a step count of 0 in front if exactly one expected array is missing."""
    weights = as_sequence(weights, "set_weights(): the weights")
    return [np.array(0), *weights] if len(weights) == expected - 1 else weights
