"""LocalRounds: each node makes some steps separately, then all nodes exchange the results."""

from __future__ import annotations

import abc
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from distopt import aggregators, distribute
from distopt.aggregators import Mean, WeightedMean
from distopt.collectives import EXACT, digest
from distopt.core.assignment import assign_alike
from distopt.core.checks import as_config, as_count, shown
from distopt.core.dtypes import kind_of
from distopt.core.keywords import KnownArguments
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext
from distopt.engine import fingerprint
from distopt.engine.plan import PlanCache
from distopt.engine.shared_parameters import SharedParameters
from distopt.engine.step import StepEngine
from distopt.optimizers.describe import stages_of
from distopt.optimizers.identify import deserialize, serialize
from distopt.optimizers.loss_scale_optimizer import LossScaleOptimizer
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.pairs import Pair, take_in
from distopt.optimizers.result import StepResult
from distopt.optimizers.schedule_free import ScheduleFree
from distopt.optimizers.state import make_weights
from distopt.typing import Array, GradsAndVars

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LocalRounds", "common_start", "part_config"]

#: Settings of the inner optimizer that may be read and set here as well.
_SETTINGS = (
    *("clipnorm", "clipvalue", "global_clipnorm", "gradient_aggregator", "gradient_transformers"),
    *("on_nonfinite", "weight_decay"),
)


class LocalRounds(KnownArguments, Optimizer):
    """The base of optimizers whose nodes exchange something after several steps, instead of in each step.

    In a step the gradients are averaged over the replicas of a node, and nothing is sent to other nodes. The
    nodes diverge. At the end of a round, a subclass brings them together.

    Args:
        inner: makes the steps of a node. Each node has its own state of it.
        every: the number of steps in a round.
        name: its name.

    Raises:
        TypeError: ``inner`` is not an optimizer, or one that cannot be wrapped.
        ValueError: ``inner`` does not use the mean, or ``every`` is below 1.
    """

    def __init__(self, inner: Optimizer, every: int, name: str | None) -> None:
        _check(type(self).__name__, inner)
        super().__init__(name)
        self._hypers, self._slots, self._factors = inner._hypers, inner._slots, inner._factors
        for setting in _SETTINGS:
            setattr(self, setting, getattr(inner, setting))
        self.every = as_count(every, "every")
        self._made: Variable | None = None
        self.inner = inner

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SETTINGS and "inner" in vars(self):
            setattr(self.inner, name, value)
        super().__setattr__(name, value)

    # -- the step
    @distribute.collective_call
    def apply_gradients(
        self,
        grads_and_vars: GradsAndVars,
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> StepResult | None:
        """Makes one step on each node. After the last step of a round, the nodes exchange.

        Args:
            grads_and_vars: see the base class.
            name: accepted and ignored.
            experimental_aggregate_gradients: must be True.

        Returns:
            The new step count of this node; None if there are no pairs.

        Raises:
            ValueError: see the base class; or the gradients are already aggregated.
            ReplicaMismatch: replicas of this node are in different calls, or nodes at the end of a round are.
        """
        context = distribute.require_replica_context(f"apply_gradients() of {self._name}")
        engine, call = StepEngine.of(context), self._call()
        try:
            pairs = self._taken_in(context, grads_and_vars, experimental_aggregate_gradients)
        except Exception as error:
            if not self._met(context):  # all are on their way to the first header of the job
                engine.coordinator.broadcast_error(call, error)
            else:
                with distribute.within_node(context) as node:
                    StepEngine.of(node).coordinator.broadcast_error(call, error)
            raise
        if new := [v for v in dict.fromkeys(v for _, v in pairs) if v not in self._met(context)]:
            self._meet(context, call, new)
        steps = int(self._counter().scalar()) + 1
        with distribute.within_node(context) as node:
            result = self.inner.apply_gradients(pairs, name)
            if result is None:
                return None
            StepEngine.of(node).once(self, lambda: _set(self._counter(), steps))
        if steps >= self.every:
            self._end_round(context, steps)
        return result

    def exchange(self) -> None:
        """Ends the round now, so that all nodes have the same weights; collective.

        It does nothing if no step has been made since the last exchange.
        """
        context = distribute.require_replica_context(f"exchange() of {self._name}")
        steps = int(self._counter().scalar())
        if steps and self._met(context):
            self._end_round(context, steps)

    @abc.abstractmethod
    def _exchange(
        self, context: ReplicaContext, variables: Sequence[Variable], parts: SharedParameters
    ) -> list[Array]:
        """Brings the nodes together. All of them call it with the same variables in the same order.

        Args:
            context: the replica in its job.
            variables: all variables that have been in a step.
            parts: knows which part of each variable is this replica's.

        Returns:
            the new values of these parts; nothing if they do not change.
        """

    def _end_round(self, context: ReplicaContext, steps: int) -> None:
        variables, call = list(self._met(context)), f"exchange of {self._name} after {steps} steps"
        with distribute.within_node(context) as own:
            node = StepEngine.of(own)
            node.share(call, variables)  # with what was assigned since the last step
        if context.num_replicas_in_sync > 1:
            key = fingerprint.of_variables(variables) ^ digest(call)
            context.collective_check.check(call, key, lambda: fingerprint.sentence(call, variables))
        if values := self._exchange(context, variables, node.parameters):
            node.parameters.store(variables, values)
        StepEngine.of(context).once(self, lambda: _set(self._counter(), 0))

    # -- the variables
    def _met(self, context: ReplicaContext) -> dict[Variable, None]:
        """The variables that have been in a step on this replica, in order."""
        everyone = context.attached.setdefault(LocalRounds, WeakKeyDictionary())
        found: dict[Variable, None] = everyone.setdefault(self, {})
        return found

    def _taken_in(self, context: ReplicaContext, grads_and_vars: Any, aggregate: bool) -> list[Pair]:
        """The pairs; they are inspected if there are new variables."""
        if not aggregate:
            raise ValueError(
                f"{self._name} averages gradients over each node itself: apply_gradients(..., "
                "experimental_aggregate_gradients=False) is not supported"
            )
        met = self._met(context)
        pairs = list(grads_and_vars)
        if not met or any(variable not in met for _, variable in pairs):
            take_in(pairs, self.inner._name, PlanCache(), None, self.inner._told)
        return pairs

    def _meet(self, context: ReplicaContext, call: str, new: Sequence[Variable]) -> None:
        """Registers variables, with the values of replica 0; all nodes call it together."""
        met = self._met(context)
        begun = bool(met) or not int(self.iterations.scalar())
        if context.num_replicas_in_sync > 1:
            key = fingerprint.of_variables(new) ^ digest(f"{self.every} {begun}")
            text = f"{call}, first met, a round of {self.every} steps"
            context.collective_check.check(call, key, lambda: fingerprint.sentence(text, new))
            _check_sharing(context, self, new)
            if begun:
                for variable, value in zip(new, context.broadcast(list(new)), strict=True):
                    if as_array(variable).tobytes() != as_array(value).tobytes():
                        assign_alike(variable, value)
            else:
                state = [*new, *self.weights]
                for variable, value in zip(
                    state, common_start(context, call, [as_array(v) for v in state]) or [], strict=False
                ):
                    assign_alike(variable, value)
        make_weights(self, new)
        met.update(dict.fromkeys(new))

    def _counter(self) -> Variable:
        """The number of steps since the last exchange: an int64 variable of shape ()."""
        if self._made is None:
            _ = self.iterations  # which comes first among the weights
            with self._slots.prefixed():
                self._made = self.add_weight("local_steps", shape=[], dtype=np.int64, trainable=False)
            self._slots.weights.append(self._made)
        return self._made

    def _create_all_weights(self, var_list: list[Variable]) -> None:
        self._counter()
        make_weights(self.inner, var_list)

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Ends the round, so that all replicas have the same weights. ``fit`` calls it at its end."""
        self.exchange()

    # -- what is the inner optimizer's
    @property
    def iterations(self) -> Variable:
        """The number of steps that this node has made."""
        return self.inner.iterations

    @iterations.setter
    def iterations(self, variable: Variable) -> None:
        self.inner.iterations = variable

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """See the inner optimizer."""
        self.inner.exclude_from_weight_decay(var_list, var_names)

    def _transform_loss(self, loss: Any) -> Any:
        return self.inner._transform_loss(loss)

    def _get_gradients(
        self, tape: Any, loss: Any, var_list: list[Variable], grad_loss: Any = None
    ) -> list[Pair]:
        return self.inner._get_gradients(tape, loss, var_list, grad_loss)

    def _loss_factor(self) -> float:
        # In fit each replica has its part of the mean over a global batch; a node takes the mean of its own.
        return float(distribute.get_strategy().num_replicas_in_sync)

    # -- description and configs
    @abc.abstractmethod
    def _exchanged(self) -> str:
        """A description of what nodes exchange."""

    def describe(self) -> str:
        """Prints what a node does and what the nodes exchange when, and returns it as a string."""
        context = distribute.require_replica_context("describe()")
        world = context.world
        nodes = world.comm.size // world.node.size
        node = context.attached.get(distribute.node_context, context)
        where = f"on each of {nodes} nodes alone" if nodes > 1 else "on the one node"
        text = (
            f"{stages_of(self.inner, world.node.size)}, {where}\n"
            f"after every {self.every} steps: {self._exchanged()}"
        )
        if context.num_replicas_in_sync > 1:
            text += f"\n{StepEngine.describe(node, self.inner, EXACT)}"
        print(text)
        return text

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {"name": self._name, "inner": part_config(self.inner), "every": self.every}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """See Optimizer."""
        arguments = as_config(config, f"optimizer {cls.__name__}")
        for part in ("inner", "outer"):
            if part in arguments:
                arguments[part] = _part(arguments[part], custom_objects)
        return cls(**arguments)


def part_config(optimizer: Optimizer) -> dict[str, Any]:
    """The config of an optimizer, with its aggregator unless that is a function of the user."""
    config: dict[str, Any] = serialize(optimizer)
    with suppress(ValueError):
        config["aggregator"] = aggregators.serialize(optimizer.gradient_aggregator)
    return config


def _part(config: Any, custom_objects: dict[str, Any] | None) -> Any:
    made = deserialize(config, custom_objects)
    if "aggregator" in config:
        made.gradient_aggregator = aggregators.get(config["aggregator"])
    return made


def common_start(context: ReplicaContext, call: str, state: Sequence[Array]) -> list[Array] | None:
    """Chooses what all replicas start with after state has been restored; collective.

    Each node may have its own state. But if replicas of a node have different values, because the state was
    saved on other nodes, all start with the mean over all replicas, and with the integers of replica 0.

    Args:
        context: the replica in its job.
        call: the caller, for messages.
        state: this replica's arrays, of the same shapes and dtypes on all replicas.

    Returns:
        the arrays to start with; None if all replicas continue with their own.
    """
    mark = zlib.crc32(b"".join(array.tobytes() for array in state))
    differ = int(any(other != mark for other in context.world.node.all_gather(np.array([mark]))))
    if not any(context.collective_check.check(f"{call}, restored,", 0, lambda: call, flags=differ)):
        return None
    reduced = [
        context.all_reduce("mean", array) if kind_of(array.dtype) in "fc" else context.broadcast(array)
        for array in state
    ]
    return [np.array(as_array(value)) for value in reduced]


def _check(wrapper: str, inner: Any) -> None:
    if not isinstance(inner, Optimizer):
        raise TypeError(f"{wrapper}: inner must be an optimizer, such as SGD; got {shown(inner)}")
    if isinstance(inner, (LocalRounds, LossScaleOptimizer, ScheduleFree)):
        raise TypeError(
            f"{wrapper}: inner must not be a {type(inner).__name__}: its state may not differ between nodes"
        )
    if not isinstance(inner.gradient_aggregator, (Mean, WeightedMean)):
        raise ValueError(
            f"{wrapper}: a node's step must not depend on how many replicas it has, but inner, "
            f"{inner._name!r}, takes the {_stage(inner)} of gradients: create it with "
            "gradient_aggregator='mean', and use a loss that is the mean over each replica's examples"
        )
    if inner.use_ema:
        raise ValueError(f"{wrapper}: inner keeps averages of one node's weights: create it without use_ema")


def _stage(optimizer: Optimizer) -> str:
    return str(getattr(optimizer.gradient_aggregator, "__name__", optimizer.gradient_aggregator))


def _check_sharing(context: ReplicaContext, optimizer: Optimizer, variables: Sequence[Variable]) -> None:
    """ValueError if replicas of this process that are on different nodes share objects."""
    world = context.world
    if world.local.size == world.local_node.size:
        return
    own = {id(optimizer), *map(id, variables)}

    def shared(everyone: list[tuple[int, set[int]]]) -> bool:
        return any(a != b and one & other for a, one in everyone for b, other in everyone)

    if world.local.run_once((world.cross.rank, own), shared):
        raise ValueError(
            f"replicas of different nodes share optimizer {optimizer._name!r}, or its variables, whose "
            "values differ between nodes: create them in each replica"
        )


def _set(variable: Variable, value: int) -> None:
    """For code that runs once for all replicas that share the variable."""
    variable.storage.store(np.asarray(value, variable.dtype))
