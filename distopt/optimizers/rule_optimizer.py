"""RuleOptimizer: an optimizer given by a compiled rule."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from distopt.core.checks import as_sequence
from distopt.core.indexed_slices import sum_duplicates
from distopt.core.numbers import as_number
from distopt.core.tensor import TensorLike, as_array
from distopt.core.variable import Variable
from distopt.engine import kernels
from distopt.engine.clip import Clip
from distopt.engine.roster import Roster
from distopt.engine.rule import Rule
from distopt.engine.step import StepEngine
from distopt.engine.update import Reduction, Updates
from distopt.optimizers.limits import FINITE, FRACTION, NOT_NEGATIVE, NOT_POSITIVE, Limit, within
from distopt.optimizers.optimizer import ApplyState, Optimizer
from distopt.optimizers.pairs import Columns, Pairs
from distopt.typing import Array

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


class RuleOptimizer(Optimizer):
    """The base of the optimizers whose update is a :class:`~distopt.engine.rule.Rule`.

    A subclass says which rule is in force (:meth:`_rule`) and what the rule's coefficients are in this
    step (:meth:`_coefficients`).
    """

    _limits: ClassVar[Mapping[str, Limit]] = {
        **Optimizer._limits,
        **dict.fromkeys(("momentum", "rho", "beta_1", "beta_2"), FRACTION),
        **dict.fromkeys(("l1_regularization_strength", "l2_regularization_strength"), NOT_NEGATIVE),
        "learning_rate_power": NOT_POSITIVE,
        "beta": FINITE,
    }

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "epsilon":
            within(NOT_NEGATIVE, value, f"epsilon of optimizer {self._name!r}")
        super().__setattr__(name, value)

    @abc.abstractmethod
    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        """The rule of this step, as the attributes now say.

        Args:
            coefficients: those of the step.
        """

    @abc.abstractmethod
    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The rule's coefficients by name, scalars of ``dtype``, computed in it.

        Args:
            lr: the learning rate in force, a scalar of ``dtype``.
            dtype: that of the variables.
        """

    def step_rule(self, variable: Variable, apply_state: ApplyState | None) -> tuple[Rule, tuple[Any, ...]]:
        """The rule and its coefficients for ``variable``, as the kernels take them.

        Args:
            variable: what is to be updated.
            apply_state: what ``_prepare`` made; None to make it now.
        """
        key = (variable.device, variable.dtype)
        values = (apply_state or {}).get(key) or self._fallback_apply_state(*key)
        rule = self._rule(values)
        scalar = key[1].type
        found = [values[name] for name in rule.coefficients]
        return rule, tuple([c if type(c) is scalar else _scalar(c, key[1]) for c in found])

    def _run_pipeline(
        self, engine: StepEngine, call: str, columns: Columns, apply_state: ApplyState, aggregate: bool
    ) -> None:
        with engine.together(call):
            reduction = self._reduction(engine, columns) if aggregate else None
        limits = self.clipvalue, self.clipnorm, self.global_clipnorm
        clip = None if limits == (None, None, None) else Clip(*limits)
        if reduction is None or not engine.step(call, self._updates(columns, apply_state), reduction, clip):
            super()._run_pipeline(engine, call, columns, apply_state, aggregate)

    def _reduction(self, engine: StepEngine, columns: Columns) -> Reduction | None:
        """What the engine may do in one pass in place of the stages; None if they are user's code.

        Norms are those of gradients of one dtype.
        """
        reduce = getattr(self.gradient_aggregator, "reduction", None)
        norms = self.clipnorm is not None or self.global_clipnorm is not None
        if (
            reduce is None
            or self.gradient_transformers
            or not columns.roster.distinct
            or (norms and len(columns.roster.dtypes) > 1)
            or self._overrides(RuleOptimizer, _HOOKS)
            or engine.released(columns.variables)
        ):
            return None
        found: Reduction | None = reduce()
        mean = found is not None and found.weight is not None
        # A mean of float16 is summed in float32, which the stages do.
        return None if mean and np.float16 in columns.roster.dtypes else found

    def _apply(
        self, engine: StepEngine, call: str, pairs: Pairs, apply_state: ApplyState, alone: bool
    ) -> None:
        if self._overrides(RuleOptimizer, _UPDATES):
            super()._apply(engine, call, pairs, apply_state, alone)
        elif alone:
            engine.apply_alone(self._updates(Columns.of(pairs), apply_state))
        else:
            engine.apply(call, self._updates(Columns.of(pairs), apply_state))

    def _updates(self, columns: Columns, apply_state: ApplyState) -> Updates:
        """The pairs as the engine takes them."""
        variables, roster = columns.variables, columns.roster
        known = [self.step_rule(variables[i], apply_state) for i in roster.first]
        rules, coefficients = zip(*known, strict=True) if known else ((), ())
        targets = self._targets_of(variables, roster, rules)
        return Updates(variables, columns.gradients, targets, coefficients, columns.flats)

    def _create_slots(self, var_list: list[Variable]) -> None:
        names = self._rule({}).slots
        targets = self._targets.get(Roster.of(var_list))
        if targets is not None and all(rule.slots == names for rule in targets.rules):
            return
        none: dict[str, Variable] = {}
        new = [v for v in var_list if not all(map(self._slots.get(v, none).__contains__, names))]
        for slot in names:
            for variable in new:
                self.add_slot(variable, slot)

    def _prepare_local(self, var_device: str, var_dtype: Any, apply_state: ApplyState) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        values = apply_state[var_device, var_dtype]
        dtype = np.dtype(var_dtype)
        with np.errstate(all="ignore"):
            values.update(self._coefficients(_scalar(values["lr_t"], dtype), dtype))

    def _scalar(self, name: str, dtype: np.dtype[Any]) -> Any:
        """The hyperparameter ``name`` as a scalar of ``dtype``."""
        value = self._hyper[name]
        if type(value) is Variable:  # the common case, at little cost
            return _scalar(value, dtype)
        return self._get_hyper(name, dtype).numpy()

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        rule, coefficients = self.step_rule(handle, apply_state)
        slots = tuple(_flat(self.get_slot(handle, name)) for name in rule.slots)
        gradient = np.ascontiguousarray(as_array(grad)).reshape(-1)
        kernels.dense(rule, _flat(handle), gradient, slots, coefficients)
        self._touch(handle, rule)

    def _resource_apply_sparse(
        self, grad: Any, handle: Variable, indices: Any, apply_state: ApplyState | None = None
    ) -> None:
        rule, coefficients = self.step_rule(handle, apply_state)
        values, where = as_array(grad), as_array(indices)
        if (np.diff(where) <= 0).any():
            values, where = sum_duplicates(values, where)
        slots = tuple(_matrix(self.get_slot(handle, name)._array()) for name in rule.slots)
        values = _matrix(np.ascontiguousarray(values))
        kernels.sparse(rule, _matrix(handle._array()), values, where.astype(np.int64), slots, coefficients)
        self._touch(handle, rule)

    def _touch(self, variable: Variable, rule: Rule) -> None:
        variable._touch()
        for name in rule.slots:
            self.get_slot(variable, name)._touch()


def _scalar(value: Any, dtype: np.dtype[Any]) -> Any:
    scalar = as_array(value)[()]
    return scalar if type(scalar) is dtype.type else dtype.type(scalar)


def _flat(variable: Variable) -> Array:
    return variable._array().reshape(-1)


def _matrix(array: Array) -> Array:
    return array.reshape(len(array), math.prod(array.shape[1:]))


def epsilon_or_default(value: Any) -> Any:
    """``value``, or 1e-7 for None and 0; TypeError if it is no number."""
    if value is None or not as_number(value, "epsilon"):
        return DEFAULT_EPSILON
    return float(value) if isinstance(value, TensorLike) else value


def not_negative(value: Any, name: str) -> Any:
    """``value``, or an error if it is no number, not finite, or negative."""
    return within(NOT_NEGATIVE, value, name)


def with_step_count(weights: Sequence[Any], expected: int) -> Sequence[Any]:
    """``weights``, preceded by a step count of 0 if exactly one of the expected arrays is missing."""
    weights = as_sequence(weights, "set_weights(): the weights")
    return [np.array(0), *weights] if len(weights) == expected - 1 else weights
