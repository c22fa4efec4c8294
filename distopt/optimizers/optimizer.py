"""Optimizer: one step, from gradients to new values of the variables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

from distopt import aggregators, distribute
from distopt.core.indexed_slices import sum_duplicates
from distopt.core.tensor import Tensor
from distopt.core.variable import Variable, VariableSynchronization
from distopt.engine.batch import GradientBatch
from distopt.engine.plan import Kind, StepPlan
from distopt.engine.step import StepEngine
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers.base_optimizer import BaseOptimizer
from distopt.optimizers.describe import settings_text, stages_text, tell_pipeline
from distopt.optimizers.hooks import overrides, update_by_hooks
from distopt.optimizers.loss import (
    all_gradients,
    check_dtypes,
    compute_gradients,
    gradients_to_apply,
    variables_in,
    warn_of_means,
)
from distopt.optimizers.nonfinite import NonFinitePolicy
from distopt.optimizers.pairs import Pair, Pairs, aggregated, checked, take_in
from distopt.optimizers.result import StepResult
from distopt.optimizers.state import make_weights
from distopt.optimizers.variable_factors import Factors
from distopt.optimizers.weight_decay import add_decay
from distopt.transforms import ClipByGlobalNorm, ClipByNorm, ClipByValue
from distopt.typing import GradsAndVars, Transformer

__all__ = ["ApplyState", "Optimizer"]

#: ``finish_step`` of aggregators that do nothing there; a plain function has no such method.
_STATELESS = (None, aggregators.Aggregator.finish_step)

#: The coefficients of one step, by kind of variable, as a rule device and dtype: see ``_prepare_local``.
ApplyState: TypeAlias = dict[Kind, dict[str, Any]]


class Optimizer(BaseOptimizer):
    """The base of all optimizers: aggregates gradients over replicas, transforms them, updates variables.

    A custom optimizer overrides ``get_config``, ``_resource_apply_dense``,
    ``_resource_apply_sparse`` and, if it keeps state for variables, ``_create_slots``.

    Args:
        name: prefix of the names of its variables; None for the class's name in snake case.
        gradient_aggregator: combines the gradients of the replicas; it takes pairs and returns a pair
            for every variable. It can be a name or a config. None is the sum over all replicas.
        gradient_transformers: called one after the other on the aggregated pairs, after the clips;
            each takes pairs and returns pairs.
        **kwargs: ``clipvalue`` (clips each element to ``[-c, c]``), ``clipnorm`` (clips each gradient's
            norm), ``global_clipnorm`` (clips the joint norm), ``decay`` (divides the learning rate by
            ``1 + decay * iterations``), ``lr`` (the same as learning_rate), ``on_nonfinite`` (see the
            attribute), ``weight_decay`` (see the attribute), ``learning_rate_multiplier`` and
            ``weight_decay_multiplier`` (functions of a variable's name that return a factor for its
            learning rate or weight decay), ``use_ema``, ``ema_momentum`` (0.99) and
            ``ema_overwrite_frequency`` (see the attributes).

    Raises:
        TypeError: a keyword is unknown, or an argument has a wrong type.
        ValueError: a number among the keywords is negative, or both norms are given.

    Source: tf.keras.optimizers.Optimizer of TensorFlow 2.4.
    """

    def __init__(
        self,
        name: str | None,
        gradient_aggregator: Any = None,
        gradient_transformers: Iterable[Transformer] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, gradient_aggregator, gradient_transformers, kwargs)
        self._looked_for_means = self._described = False
        self._told: set[tuple[str, ...]] = set()
        self._named: tuple[tuple[Any, ...], str] = ((), "")

    # -- a step from the loss
    def minimize(
        self, loss: Any, var_list: Any, grad_loss: Any = None, name: str | None = None, tape: Any = None
    ) -> StepResult | None:
        """Computes the gradients of ``loss`` and applies them.

        Args:
            loss: a callable without arguments that returns the value to minimize, or such a value
                together with the tape that recorded it. A value that is not a scalar is summed.
            var_list: the variables: nested lists, or a callable that returns them, called after ``loss``.
            grad_loss: a factor for each element of the loss, with the shape of the loss.
            name: accepted and ignored.
            tape: the tape that recorded ``loss``, or that should record it.

        Returns:
            The new step count; None if ``var_list`` is empty.

        Raises:
            ValueError: the tape is missing, ``var_list`` is invalid, or there are no gradients.
            ReplicaFailed: the loss of another replica raised an exception.
            RuntimeError: called in cross-replica context.
        """
        return self.apply_gradients(gradients_to_apply(self, loss, var_list, grad_loss, tape), name)

    def get_updates(self, loss: Any, params: Any) -> list[StepResult | None]:
        """Makes one step on the callable ``loss``. Returns the result in a list. See :meth:`minimize`."""
        pairs = zip(self.get_gradients(loss, params), variables_in(params), strict=True)
        return [self.apply_gradients(list(pairs))]

    def get_gradients(self, loss: Any, params: Any) -> list[Any]:
        """Returns the gradients of ``loss`` with respect to ``params``.

        Args:
            loss: a callable without arguments, not a value, which does not record its computation.
            params: the variables.

        Raises:
            ValueError: ``loss`` is a value, or a variable has no gradient.
        """
        return all_gradients(self, loss, params)

    def _compute_gradients(
        self, loss: Any, var_list: Any, grad_loss: Any = None, tape: Any = None
    ) -> list[Pair]:
        """A hook: returns the pairs that ``minimize`` applies."""
        return compute_gradients(self, loss, var_list, grad_loss, tape)

    def _transform_loss(self, loss: Any) -> Any:
        """A hook: returns the loss to differentiate. It gets the computed one, inside the tape."""
        return loss

    def _get_gradients(
        self, tape: Any, loss: Any, var_list: list[Variable], grad_loss: Any = None
    ) -> list[Pair]:
        """A hook: returns pairs of gradients (None if there is none) and variables."""
        return list(zip(tape.gradient(loss, var_list, grad_loss), var_list, strict=True))

    def _assert_valid_dtypes(self, tensors: Sequence[Any]) -> None:
        """A hook: raises ValueError if a dtype cannot be trained."""
        check_dtypes(tensors)

    # -- a step from gradients
    @distribute.collective_call
    def apply_gradients(
        self,
        grads_and_vars: GradsAndVars,
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> StepResult | None:
        """Makes one step on all replicas: aggregates gradients, transforms them, updates variables.

        All pairs are checked before anything changes. Pairs whose gradient is None are left out.

        Args:
            grads_and_vars: pairs of a gradient (tensor, array, nested lists, number or
                :class:`~distopt.IndexedSlices`, of the variable's shape and dtype) and a variable.
            name: accepted and ignored.
            experimental_aggregate_gradients: False if the gradients are already aggregated.

        Returns:
            The new step count; the old one if ``on_nonfinite`` skipped the step; None without pairs.

        Raises:
            TypeError: pairs are malformed, or a dtype is wrong, also in the result of the aggregator.
            ValueError: no gradient, a wrong shape or index, or the aggregator lost a variable.
            RuntimeError: called in cross-replica context, or sparse rows for a variable with a constraint.
            FloatingPointError: ``on_nonfinite="raise"`` and a gradient of a replica is not finite.
        """
        call, made, context = self._call(), len(self._slots.weights), distribute.get_replica_context()
        engine = None if context is None else StepEngine.of(context)
        try:
            batch, plan, apply_state = self._check_and_prepare(engine, grads_and_vars)
        except Exception as error:
            self._forget_slots(made)
            if engine is not None:  # in cross-replica context no other replica waits
                engine.coordinator.broadcast_error(call, error)
            raise
        if engine is None or not batch.variables:
            return None
        engine.begin(self, self._steps_before())
        if self._nonfinite is not NonFinitePolicy.PROPAGATE:
            finite = self._nonfinite.apply(engine, call, batch)
            if finite is None:
                return StepResult(self._steps_made())
            batch = finite
        if experimental_aggregate_gradients and not self._looked_for_means:
            self._looked_for_means = True
            warn_of_means(self, batch.given)
        try:
            self._run_pipeline(engine, call, plan, batch, apply_state, experimental_aggregate_gradients)
        except (ReplicaMismatch, ReplicaFailed):
            self._forget_slots(made)  # other replicas may have made none, or in another order
            raise
        if self._average is not None:
            self._average.move(engine, self, batch.variables)
        hook = getattr(type(self.gradient_aggregator), "finish_step", None)
        if experimental_aggregate_gradients and hook not in _STATELESS:
            self._finish_aggregation(engine)
        engine.once(self, partial(self._count, apply_state))
        if experimental_aggregate_gradients and engine.counted(self):
            engine.coordinator.audit(call, [*batch.variables, *self.weights], settings_text(self))
        return StepResult(self._steps_made())

    def _check_and_prepare(
        self, engine: StepEngine | None, grads_and_vars: GradsAndVars
    ) -> tuple[GradientBatch, StepPlan, ApplyState]:
        """Checks arguments and hyperparameters. Returns the gradients, their plan and the coefficients."""
        batch, plan = take_in(grads_and_vars, self._name, self._plans, engine, self._told)
        if not self._has_weights(plan):
            make_weights(self, batch.variables)
        if not batch.variables:
            return batch, plan, {}
        if engine is None:
            distribute.require_replica_context("apply_gradients()")  # raises RuntimeError
        self._check_hypers()
        return batch, plan, self._prepare_step(plan)

    #: The user's call of a step, for messages.
    _step_call: ClassVar[str] = "apply_gradients"

    def _call(self) -> str:
        """The name of this step's collective calls. It includes the stages, so that replicas must agree."""
        policies = (self._name, self._nonfinite, self._clip, self.gradient_aggregator)
        stages = (*policies, *self.gradient_transformers)
        if self._named[0] != stages:
            text = stages_text(self)
            self._named = stages, f"{self._step_call} of {self._name}{f' ({text})' if text else ''}"
        return self._named[1]

    def _run_pipeline(
        self,
        engine: StepEngine,
        call: str,
        plan: StepPlan,
        batch: GradientBatch,
        apply_state: ApplyState,
        aggregate: bool,
    ) -> None:
        """Aggregates, transforms and updates."""
        received: Any = engine.coordinator.unified_pairs(call, batch) if aggregate else batch.pairs()
        with engine.coordinator.error_barrier(call):
            if aggregate:
                received = tuple(self._transform_unaggregated_gradients(received))
                name = aggregators.label(self.gradient_aggregator)
                received = aggregated(received, self._aggregate_gradients(received), name)
            transformed = self._transform_gradients(received)
            if transformed is not received:
                transformed = checked(transformed, "the gradient transformers' result")
        if aggregate and engine.audit_due(self):
            engine.coordinator.audit_gradients(call, transformed)
        variables = [variable for _, variable in transformed]
        if not aggregate:
            engine.coordinator.check(f"{call}, not aggregated,", variables)
        alone = engine.released(variables) or not (aggregate or self._are_alike(engine, variables))
        self._apply(engine, call, transformed, apply_state, alone)

    def _are_alike(self, engine: StepEngine, variables: Sequence[Variable]) -> bool:
        """Whether gradients that were not aggregated here are still the same on all replicas."""
        return engine.shares(variables)

    def _apply(
        self, engine: StepEngine, call: str, pairs: Pairs, apply_state: ApplyState, alone: bool
    ) -> None:
        """Updates with final gradients, each replica its own copies if they may differ (``alone``)."""
        slots = self._slots.of
        jobs = [(v, (v, *slots(v).values()), partial(self._update, g, v, apply_state)) for g, v in pairs]
        costs = [self._update_cost(v) for _, v in pairs]
        engine.run(call, jobs, settings_text(self, apply_state), alone, costs)

    def _finish_aggregation(self, engine: StepEngine) -> None:
        """Finishes the step of the aggregator, for each replica's own state or the shared one."""
        aggregator = self.gradient_aggregator
        if not isinstance(aggregator, aggregators.Aggregator):
            return
        if any(w.synchronization is VariableSynchronization.ON_READ for w in aggregator.weights):
            aggregator.finish_step()
        else:
            engine.once(self, aggregator.finish_step)

    def _count(self, apply_state: ApplyState) -> None:
        """Ends a step: calls ``_finish_step``, and increments the step count."""
        if not self._described:
            self._described = tell_pipeline(self)
        self._finish_step(apply_state)
        assert self._iterations is not None
        self._iterations.count_up()

    def _steps_made(self) -> int:
        """The value of :attr:`iterations`, without the cost of its property if possible."""
        return int((self.iterations if self._iterations is None else self._iterations).scalar())

    #: A hook: the number of steps before this one, including those of the program that saved the checkpoint.
    _steps_before = _steps_made

    def _overrides(self, base: type, hooks: tuple[str, ...]) -> bool:
        """Whether the class or the instance overrides any of these hooks of ``base``."""
        return overrides(type(self), base, hooks) or not vars(self).keys().isdisjoint(hooks)

    def _forget_slots(self, made: int) -> None:
        """Removes the slots that a failed step created. Before it there were ``made`` weights."""
        self._slots.remove_since(made)
        self._plans.clear()

    def _has_weights(self, plan: StepPlan) -> bool:
        """Whether this plan does not need a call of ``_create_all_weights``, which may be overridden."""
        return False

    def _check_hypers(self) -> None:
        """ValueError if a hyperparameter was set to a number outside its limits."""
        self._hypers.check()

    # -- prepare
    def _create_slots(self, var_list: list[Variable]) -> None:
        """A hook: calls ``add_slot`` for each variable; called in every step."""

    def _create_all_weights(self, var_list: list[Variable]) -> None:
        """A hook: creates the step count, the hyperparameters, the slots and the aggregator's variables."""
        _ = self.iterations
        self._create_hypers()
        self._create_slots(var_list)
        if isinstance(self.gradient_aggregator, aggregators.Aggregator):
            self.gradient_aggregator.build(var_list)

    def _prepare_step(self, plan: StepPlan) -> ApplyState:
        """The coefficients of this step for each device and dtype of the variables."""
        apply_state: ApplyState = {}
        for kind in plan.kinds:
            apply_state[kind] = {}
            self._prepare_local(*kind, apply_state)
            if self._weight_decay:
                add_decay(self, kind, apply_state[kind])
        return apply_state

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        """A hook: adds to ``apply_state[var_device, var_dtype]`` what depends only on the step."""
        if isinstance(var_device, Factors) and var_device.learning_rate != 1.0:
            raise TypeError(f"learning_rate_multiplier needs a compiled rule; {type(self).__name__} has none")
        if "learning_rate" in self._hypers:
            apply_state[var_device, var_dtype]["lr_t"] = self._decayed_lr(var_dtype)

    def _fallback_apply_state(self, var_device: str, var_dtype: Any) -> dict[str, Any]:
        """The coefficients of one device and dtype, for updates outside a step."""
        apply_state: ApplyState = {(var_device, var_dtype): {}}
        self._prepare_local(var_device, var_dtype, apply_state)
        return apply_state[var_device, var_dtype]

    # -- aggregate
    def _transform_unaggregated_gradients(self, grads_and_vars: Pairs) -> Any:
        """A hook: returns the pairs to aggregate, given those of this replica."""
        return grads_and_vars

    def _aggregate_gradients(self, grads_and_vars: Any) -> Any:
        """A hook: returns the pairs aggregated over all replicas. It calls ``gradient_aggregator``."""
        return self.gradient_aggregator(grads_and_vars)

    # -- transform
    def _transform_gradients(self, grads_and_vars: Any) -> Any:
        """A hook: returns the pairs to apply, after clipvalue, clipnorm, global_clipnorm and transformers."""
        if self.clipvalue is not None:
            grads_and_vars = ClipByValue(self.clipvalue)(grads_and_vars)
        if self.clipnorm is not None:
            grads_and_vars = ClipByNorm(self.clipnorm)(grads_and_vars)
        if self.global_clipnorm is not None:
            grads_and_vars = self._global_clip(self.global_clipnorm)(grads_and_vars)
        for transformer in self.gradient_transformers:
            grads_and_vars = transformer(grads_and_vars)
        return grads_and_vars

    def _global_clip(self, limit: float) -> Transformer:
        """A transformer that clips the norm of all gradients together to ``limit``."""
        return ClipByGlobalNorm(limit)

    # -- update
    def _update(self, gradient: Any, variable: Variable, apply_state: ApplyState) -> None:
        update_by_hooks(self, gradient, variable, apply_state)

    def _resource_apply_dense(self, grad: Any, handle: Variable, apply_state: Any = None) -> Any:
        """A hook: updates the variable ``handle`` with ``grad``, a tensor of its shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must override _resource_apply_dense()")

    def _resource_apply_sparse(
        self, grad: Any, handle: Variable, indices: Any, apply_state: Any = None
    ) -> Any:
        """A hook: updates the rows ``indices``, distinct and increasing, of ``handle`` with ``grad``."""
        raise NotImplementedError(f"{type(self).__name__} must override _resource_apply_sparse()")

    def _resource_apply_sparse_duplicate_indices(
        self, grad: Any, handle: Variable, indices: Any, **kwargs: Any
    ) -> Any:
        """A hook: sums the rows of equal index, then calls ``_resource_apply_sparse``."""
        rows, distinct = map(Tensor.from_numpy, sum_duplicates(grad, indices))
        return self._resource_apply_sparse(rows, handle, distinct, **kwargs)

    def _finish_step(self, apply_state: ApplyState) -> None:
        """A hook: updates what does not belong to a variable, after all variables have been updated."""
