"""Optimizer: one step, from gradients to new values of the variables."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from distopt import aggregators, distribute
from distopt.core.checks import as_config, as_name
from distopt.core.indexed_slices import IndexedSlices, sum_duplicates
from distopt.core.tensor import Tensor
from distopt.core.variable import Variable
from distopt.engine.batch import GradientBatch
from distopt.engine.owners import constrain
from distopt.engine.plan import StepPlan
from distopt.engine.step import StepEngine
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers import schedules
from distopt.optimizers.config import check_keywords, check_transformers, clip_config, snake_case_name
from distopt.optimizers.describe import pipeline_text, settings_text, stages_text
from distopt.optimizers.hooks import replaces, takes_state
from distopt.optimizers.hyper import Hyperparameters
from distopt.optimizers.loss import LossGradients, variables_in
from distopt.optimizers.nonfinite import NonFinite, finite_batch
from distopt.optimizers.pairs import Pairs, aggregated, checked, take_in
from distopt.optimizers.result import StepResult
from distopt.optimizers.slots import Slots
from distopt.transforms import ClipByGlobalNorm, ClipByNorm, ClipByValue
from distopt.typing import Aggregator, GradsAndVars, Transformer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ApplyState", "Optimizer"]

#: What the hook of an aggregator is where there is nothing to be done; a plain function has none.
_STATELESS = (None, aggregators.Aggregator.finish_step)

#: The coefficients of one step, by device and dtype: see ``_prepare_local``.
ApplyState: TypeAlias = dict[tuple[str, "np.dtype[Any]"], dict[str, Any]]


class Optimizer(LossGradients, Hyperparameters, NonFinite, Slots, abc.ABC):
    """The base of all optimizers: aggregates gradients over replicas, transforms them, updates variables.

    An optimizer of one's own overrides ``get_config``, ``_resource_apply_dense``,
    ``_resource_apply_sparse`` and, if it keeps state beside the variables, ``_create_slots``.

    Args:
        name: prefix of the names of its variables; None for the class's name in snake case.
        gradient_aggregator: combines the replicas' gradients: pairs in, every variable's pair out.
            None for the sum over all replicas; or the name or config of an aggregator.
        gradient_transformers: called one after the other on the aggregated pairs, after the clips;
            pairs in, pairs out.
        **kwargs: ``clipvalue`` (each element to ``[-c, c]``), ``clipnorm`` (each gradient's norm),
            ``global_clipnorm`` (the norm of all together), ``decay`` (the learning rate is divided by
            ``1 + decay * iterations``), ``lr`` (the same as learning_rate), ``on_nonfinite`` (what is done
            about NaN and infinity in gradients: see the attribute).

    Raises:
        TypeError: an unknown keyword, or an argument of a wrong kind.
        ValueError: a negative number among the keywords, or both norms.

    Source: tf.keras.optimizers.Optimizer of TensorFlow 2.4.
    """

    def __init__(
        self,
        name: str | None,
        gradient_aggregator: Any = None,
        gradient_transformers: Iterable[Transformer] | None = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs)
        self._name = snake_case_name(type(self)) if as_name(name) is None else str(name)
        super().__init__(initial_decay=kwargs.get("decay", 0.0))
        self.gradient_aggregator: Aggregator = aggregators.get(gradient_aggregator)
        self.gradient_transformers: list[Transformer] = check_transformers(gradient_transformers)
        self.clipnorm: float | None = kwargs.get("clipnorm")
        self.clipvalue: float | None = kwargs.get("clipvalue")
        self.global_clipnorm: float | None = kwargs.get("global_clipnorm")
        self.on_nonfinite = kwargs.get("on_nonfinite", "propagate")
        self._named: tuple[tuple[Any, ...], str] = ((), "")

    # -- a step from the loss
    def minimize(
        self, loss: Any, var_list: Any, grad_loss: Any = None, name: str | None = None, tape: Any = None
    ) -> StepResult | None:
        """Computes the gradients of ``loss`` and applies them.

        Args:
            loss: a callable without arguments that returns the value to minimize, or such a value
                together with the tape that computed it. A value that is no scalar is summed.
            var_list: the variables: nested lists, or a callable that returns them, called after ``loss``.
            grad_loss: a factor for each element of the loss, of its shape.
            name: accepted and ignored.
            tape: the tape that computed ``loss``, or that shall record it.

        Returns:
            The new number of steps; None when ``var_list`` is empty.

        Raises:
            ValueError: a value without its tape, something that is no variable, or no gradient at all.
            RuntimeError: called in cross-replica context.
        """
        return self.apply_gradients(self._compute_gradients(loss, var_list, grad_loss, tape), name)

    def get_updates(self, loss: Any, params: Any) -> list[StepResult | None]:
        """Makes one step on ``loss``, a callable, see :meth:`get_gradients`; its result in a list."""
        return [
            self.apply_gradients(
                list(zip(self.get_gradients(loss, params), variables_in(params), strict=True))
            )
        ]

    # -- a step from gradients
    @distribute.collective_call
    def apply_gradients(
        self,
        grads_and_vars: GradsAndVars,
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> StepResult | None:
        """Makes one step: aggregate over replicas, transform, update, on all replicas alike.

        All pairs are checked before anything is changed. Pairs with gradient None are left out.

        Args:
            grads_and_vars: pairs of a gradient (tensor, array, nested lists, number or
                :class:`~distopt.IndexedSlices`, of the variable's shape and dtype) and a variable.
            name: accepted and ignored.
            experimental_aggregate_gradients: False if the gradients are aggregated already.

        Returns:
            The new number of steps, or the old one if ``on_nonfinite`` left the step out; None for no pairs
            at all, which is no step.

        Raises:
            TypeError: malformed pairs, or a gradient of another dtype; also in what the aggregator returned.
            ValueError: no gradient at all, or one of another shape, or an index out of range; an aggregator
                that lost a variable.
            RuntimeError: called in cross-replica context, or sparse rows for a variable with a constraint.
            FloatingPointError: ``on_nonfinite="raise"`` and a gradient of some replica is not finite.
        """
        call, context = self._call(), distribute.get_replica_context()
        engine = None if context is None else StepEngine.of(context)
        made = len(self._weights)
        try:
            batch, plan, apply_state = self._check_and_prepare(engine, grads_and_vars)
        except Exception as error:
            self._forget_slots(made)
            if engine is not None:  # between replicas there is nobody to tell
                engine.tell(call, error)
            raise
        if engine is None or not batch.variables:
            return None
        engine.begin(self)
        if self._on_nonfinite != "propagate":
            finite = finite_batch(self._on_nonfinite, engine, call, batch)
            if finite is None:
                return StepResult(self._steps_made())
            batch = finite
        if experimental_aggregate_gradients and not self._looked_for_means:
            self._look_for_means(batch.given, isinstance(self.gradient_aggregator, aggregators.Sum))
        try:
            self._run_pipeline(engine, call, plan, batch, apply_state, experimental_aggregate_gradients)
        except (ReplicaMismatch, ReplicaFailed):
            self._forget_slots(made)  # others may have made none, or others, and so in another order
            raise
        engine.once(self, partial(self._count, apply_state, experimental_aggregate_gradients))
        if experimental_aggregate_gradients and engine.counted(self):
            engine.audit(call, [*batch.variables, *self.weights], settings_text(self))
        return StepResult(self._steps_made())

    def _check_and_prepare(
        self, engine: StepEngine | None, grads_and_vars: GradsAndVars
    ) -> tuple[GradientBatch, StepPlan, ApplyState]:
        """All that may be wrong with a step's arguments and hyperparameters; its coefficients."""
        batch, plan = take_in(grads_and_vars, self._name, self._plans, engine)
        if not self._has_weights(plan):
            with self._naming_after_optimizer():
                self._create_all_weights(list(batch.variables))
        if not batch.variables:
            return batch, plan, {}
        if engine is None:
            distribute.require_replica_context("apply_gradients()")  # which it is not: an error
        self._check_hypers()
        return batch, plan, self._prepare_step(plan)

    def _call(self) -> str:
        """The name of a step's calls, which replicas must have in common: so they have the stages too."""
        stages = (
            self._name,
            self._on_nonfinite,
            self.clipvalue,
            self.clipnorm,
            self.global_clipnorm,
            self.gradient_aggregator,
            *self.gradient_transformers,
        )
        if self._named[0] != stages:
            text = stages_text(self)
            self._named = stages, f"apply_gradients of {self._name}{f' ({text})' if text else ''}"
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
        """Aggregate, transform, update."""
        received: Any = engine.open(call, batch) if aggregate else batch.pairs()
        with engine.errors(call):
            if aggregate:
                received = tuple(self._transform_unaggregated_gradients(received))
                name = aggregators.label(self.gradient_aggregator)
                received = aggregated(received, self._aggregate_gradients(received), name)
            transformed = self._transform_gradients(received)
            if transformed is not received:
                transformed = checked(transformed, "the gradient transformers' result")
        if aggregate:
            engine.audit_gradients(self, call, transformed)
        variables = [variable for _, variable in transformed]
        if not aggregate:
            engine.meet(f"{call}, not aggregated,", variables)
        alone = engine.released(variables) or not (aggregate or engine.shares(variables))
        self._apply(engine, call, transformed, apply_state, alone)

    def _apply(
        self, engine: StepEngine, call: str, pairs: Pairs, apply_state: ApplyState, alone: bool
    ) -> None:
        """Updates with gradients that are final: the same on all replicas, or each its own ``alone``."""
        jobs = [
            (v, (v, *self._slots.get(v, {}).values()), partial(self._update, g, v, apply_state))
            for g, v in pairs
        ]
        engine.run(call, jobs, settings_text(self, apply_state), alone)

    def _count(self, apply_state: ApplyState, aggregate: bool) -> None:
        """Moves on what belongs to no variable."""
        self._finish_step(apply_state)
        aggregator = self.gradient_aggregator
        hook = getattr(type(aggregator), "finish_step", None)
        if aggregate and hook not in _STATELESS and isinstance(aggregator, aggregators.Aggregator):
            aggregator.finish_step()
        assert self._iterations is not None
        self._iterations.count_up()

    def _steps_made(self) -> int:
        """The value of :attr:`iterations`, at little cost."""
        variable = self.iterations if self._iterations is None else self._iterations
        return int(variable.scalar())

    def _overrides(self, base: type, hooks: tuple[str, ...]) -> bool:
        """Whether this optimizer, by its class or by attributes, replaces any of ``base``'s hooks."""
        return replaces(type(self), base, hooks) or not vars(self).keys().isdisjoint(hooks)

    def _create_all_weights(self, var_list: list[Variable]) -> None:
        _ = self.iterations
        self._create_hypers()
        self._create_slots(var_list)
        if isinstance(self.gradient_aggregator, aggregators.Aggregator):
            self.gradient_aggregator.build(var_list)

    def _weights_of_others(self) -> list[Variable]:
        aggregator = self.gradient_aggregator
        return aggregator.weights if isinstance(aggregator, aggregators.Aggregator) else []

    def _create_slots(self, var_list: list[Variable]) -> None:
        """A hook: calls ``add_slot`` for each variable; called in every step."""

    def _has_weights(self, plan: StepPlan) -> bool:
        """Whether ``_create_all_weights``, which may be a user's, has nothing to do for these variables."""
        return False

    # -- prepare
    def _prepare_step(self, plan: StepPlan) -> ApplyState:
        """The coefficients of this step for each device and dtype among the variables."""
        apply_state: ApplyState = {}
        for kind in plan.kinds:
            apply_state[kind] = {}
            self._prepare_local(*kind, apply_state)
        return apply_state

    def _prepare_local(self, var_device: str, var_dtype: Any, apply_state: ApplyState) -> None:
        """A hook: puts into ``apply_state[var_device, var_dtype]`` what depends on the step only."""
        if "learning_rate" in self._hyper:
            apply_state[var_device, var_dtype]["lr_t"] = self._decayed_lr(var_dtype)

    def _fallback_apply_state(self, var_device: str, var_dtype: Any) -> dict[str, Any]:
        """The coefficients of one device and dtype, made now."""
        apply_state: ApplyState = {(var_device, var_dtype): {}}
        self._prepare_local(var_device, var_dtype, apply_state)
        return apply_state[var_device, var_dtype]

    # -- aggregate
    def _transform_unaggregated_gradients(self, grads_and_vars: Pairs) -> Any:
        """A hook: the pairs to aggregate in place of those of this replica."""
        return grads_and_vars

    def _aggregate_gradients(self, grads_and_vars: Any) -> Any:
        """A hook: the pairs of all replicas together; calls ``gradient_aggregator``."""
        return self.gradient_aggregator(grads_and_vars)

    # -- transform
    def _transform_gradients(self, grads_and_vars: Any) -> Any:
        """A hook: the pairs to apply: clipvalue, clipnorm, global_clipnorm, then the transformers."""
        if self.clipvalue is not None:
            grads_and_vars = ClipByValue(self.clipvalue)(grads_and_vars)
        if self.clipnorm is not None:
            grads_and_vars = ClipByNorm(self.clipnorm)(grads_and_vars)
        if self.global_clipnorm is not None:
            grads_and_vars = ClipByGlobalNorm(self.global_clipnorm)(grads_and_vars)
        for transformer in self.gradient_transformers:
            grads_and_vars = transformer(grads_and_vars)
        return grads_and_vars

    # -- update
    def _update(self, gradient: Any, variable: Variable, apply_state: ApplyState) -> None:
        if isinstance(gradient, IndexedSlices):
            extra = {"apply_state": apply_state} if takes_state(self._resource_apply_sparse) else {}
            self._resource_apply_sparse_duplicate_indices(
                gradient.values, variable, gradient.indices, **extra
            )
            return
        extra = {"apply_state": apply_state} if takes_state(self._resource_apply_dense) else {}
        self._resource_apply_dense(gradient, variable, **extra)
        constrain(variable)

    def _resource_apply_dense(self, grad: Any, handle: Variable, apply_state: Any = None) -> Any:
        """Updates the variable ``handle`` with ``grad``, a tensor of its shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must override _resource_apply_dense()")

    def _resource_apply_sparse(
        self, grad: Any, handle: Variable, indices: Any, apply_state: Any = None
    ) -> Any:
        """Updates the variable ``handle`` with the rows ``grad`` at ``indices``, distinct and increasing."""
        raise NotImplementedError(f"{type(self).__name__} must override _resource_apply_sparse()")

    def _resource_apply_sparse_duplicate_indices(
        self, grad: Any, handle: Variable, indices: Any, **kwargs: Any
    ) -> Any:
        """Sums the rows of equal index, then calls ``_resource_apply_sparse``."""
        rows, distinct = sum_duplicates(grad, indices)
        return self._resource_apply_sparse(
            Tensor.from_numpy(rows), handle, Tensor.from_numpy(distinct), **kwargs
        )

    def _finish_step(self, apply_state: ApplyState) -> None:
        """Moves on the state that belongs to no variable, after all updates."""

    # -- in words, and as configs
    def describe(self) -> str:
        """Prints the pipeline in force, and returns it.

        For example: ``sum over 4 replicas -> clip global norm 1 -> Adam(learning_rate=0.001, ...)``.
        """
        text = pipeline_text(self)
        print(text)
        return text

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments with their values now, as JSON can hold them."""
        clips = {
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
        }
        policy = {} if self.on_nonfinite == "propagate" else {"on_nonfinite": self.on_nonfinite}
        return {"name": self._name, **clip_config(clips), **policy}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """An optimizer from what :meth:`get_config` returned.

        Args:
            config: it is not changed. A dict as learning rate is a schedule's; ``lr`` is an old name.
            custom_objects: the user's own schedules by name.

        Raises:
            TypeError: a key that the constructor does not take.
            ValueError: an unknown schedule.
        """
        arguments = as_config(config, f"optimizer {cls.__name__}")
        if "lr" in arguments:
            arguments["learning_rate"] = arguments.pop("lr")
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = schedules.deserialize(arguments["learning_rate"], custom_objects)
        return cls(**arguments)
