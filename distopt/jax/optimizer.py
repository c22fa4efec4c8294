"""Optimizer: parameters of JAX programs, and their step over all replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, final

import jax

from distopt.core.keywords import refuse_unknown
from distopt.core.numbers import as_clip
from distopt.core.variable import Variable
from distopt.distribute import collective_call, require_replica_context
from distopt.engine.step import StepEngine
from distopt.jax.rates import checked_rate
from distopt.jax.rules.leaf_rule import LeafUpdate
from distopt.jax.state import load_state, state_of
from distopt.jax.tree import ParameterTree
from distopt.jax.updates import LeafTraits, TreeUpdates
from distopt.jax.whole_updates import updates_of

__all__ = ["ApplyOptions", "Optimizer"]


class ApplyOptions(TypedDict, total=False):
    """The options that all optimizers take in addition to optax's arguments.

    Attributes:
        aggregator: combines the gradients of all replicas. An aggregator of ``distopt.aggregators``, its name
            or its config, or a function from ``(gradient, variable)`` pairs to pairs. By default the mean.
        clip: the largest absolute value of an element of the aggregated gradients, as in ``optax.clip``.
            Applied first.
        clip_by_global_norm: the largest norm of all aggregated gradients together, as in
            ``optax.clip_by_global_norm``.
        on_nonfinite: what to do about NaN and infinity in the gradients of any replica: ``"propagate"``,
            ``"raise"``, ``"skip"`` or ``"zero"``. See ``distopt.optimizers.Optimizer``.
    """

    aggregator: Any
    clip: float | None
    clip_by_global_norm: float | None
    on_nonfinite: str


#: A function from the leaves and the parameters to the update algorithm of each trained leaf.
LeafRules: TypeAlias = Callable[[ParameterTree, Any], Sequence[LeafUpdate]]


@final
class Optimizer:
    """An optax optimizer with a step over all replicas. Create one with ``dj.adam(...)``, for example.

    The optimizer keeps the parameters and updates them in memory that the replicas of a node share. It
    returns copies, which never change.

    Args:
        name: the name of the function, for messages.
        rule: the update rule with its settings.
        learning_rate: a number, or a function of the number of steps made.
        options: see ApplyOptions.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the update. A number
            or a schedule.
        mask: which leaves decay: a pytree of Booleans like the parameters, or a function that returns one.
        trust_mask: which leaves have a trust ratio, in the same form as ``mask``.
        rules: a function that returns the update rule of each trained leaf, from the leaves and the
            parameters. None if all use ``rule``.

    Raises:
        TypeError: an unknown option, or a rate that is not a number.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        name: str,
        rule: LeafUpdate,
        learning_rate: Any,
        options: Mapping[str, Any],
        weight_decay: Any = 0.0,
        mask: Any = None,
        trust_mask: Any = None,
        rules: LeafRules | None = None,
    ) -> None:
        refuse_unknown(
            f"distopt.jax.{name}",
            [key for key in options if key not in ApplyOptions.__annotations__],
            list(ApplyOptions.__annotations__),
        )
        for key in ("clip", "clip_by_global_norm"):
            if options.get(key) is not None:
                as_clip(options[key], key)
        self._name, self._rule, self._options = name, rule, dict(options)
        self._mask, self._trust_mask, self._rules = mask, trust_mask, rules
        self.learning_rate = learning_rate
        self._weight_decay = checked_rate(weight_decay, f"weight_decay of {name}")
        self._tree: ParameterTree | None = None
        self._updates = self._make_updates({})

    def _make_updates(self, traits: Mapping[Variable, LeafTraits]) -> TreeUpdates:
        return updates_of(self._rule)(
            self._name,
            self._rule,
            lambda: (self._learning_rate, self._weight_decay),
            traits,
            self._options,
        )

    @property
    def learning_rate(self) -> Any:
        """The learning rate, a number or a function of the number of steps made. Set it on all replicas."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._learning_rate = checked_rate(value, f"learning_rate of {self._name}")

    @property
    def count(self) -> int:
        """The number of steps made."""
        return int(self._updates.iterations.scalar())

    # -- parameters
    def init(self, params: Any) -> Any:
        """Initializes the optimizer and gives all replicas the parameters of replica 0. Collective.

        Another call starts again with other parameters.

        Args:
            params: a pytree of CPU arrays. Arrays of floating-point or complex numbers are trained. Arrays of
                integers and Booleans get replica 0's values. All other leaves stay as they are.

        Returns:
            The same pytree, with arrays that never change.

        Raises:
            TypeError: called inside a function that JAX transforms.
            ValueError: no leaf can be trained, or a leaf is on a GPU.
            ReplicaMismatch: the pytrees of replicas differ.
        """
        jax.effects_barrier()
        return self._init(params)

    @collective_call
    def _init(self, params: Any) -> Any:
        call = f"init() of {self._name}"
        context = require_replica_context(call)
        engine = StepEngine.of(context)
        try:
            tree = ParameterTree(call, params)
            traits = self._traits(tree, params)
        except Exception as error:
            engine.coordinator.broadcast_error(call, error)
            raise
        engine.share(call, tree.variables)
        if engine.replicas > 1 and tree.shared:
            values = context.broadcast([leaf.value for leaf in tree.shared])
            for leaf, value in zip(tree.shared, values, strict=True):
                leaf.replace(value.numpy())
        self._tree, self._updates = tree, self._make_updates(traits)
        self._updates.make_slots(tree.variables)
        self._updates.build_aggregator(tree.variables)
        return tree.value()

    def _traits(self, tree: ParameterTree, params: Any) -> dict[Variable, LeafTraits]:
        """The traits of each variable, from the masks and the rules of the leaves."""
        found = []
        for mask, what in ((self._mask, "mask"), (self._trust_mask, "trust_ratio_mask")):
            made = mask(params) if callable(mask) else mask
            found.append(tree.matches(True if made is None else made, f"{what} of {self._name}"))
        decays = self._weight_decay != 0
        rules = [None] * len(tree.variables) if self._rules is None else self._rules(tree, params)
        return {
            variable: LeafTraits(decays and own, adapts, rule)
            for variable, own, adapts, rule in zip(tree.variables, *found, rules, strict=True)
        }

    @property
    def params(self) -> Any:
        """The current parameters. To change them, assign a pytree of the same structure on all replicas."""
        return self._initialized("params").value()

    @params.setter
    def params(self, params: Any) -> None:
        tree = self._initialized("params")
        memory = self._engine("params").parameters
        for value, variable in tree.arrays(f"params of {self._name}", params):
            memory.assign(variable, value)

    def _initialized(self, call: str) -> ParameterTree:
        if self._tree is None:
            raise RuntimeError(f"{call} of {self._name} was called before init(params): call init first")
        return self._tree

    def _engine(self, call: str) -> StepEngine:
        return StepEngine.of(require_replica_context(f"{call} of {self._name}"))

    # -- a step
    def apply(self, grads: Any, *, examples: int | None = None) -> Any:
        """Makes one step on all replicas: aggregates the gradients, clips them and updates the parameters.

        Collective.

        Args:
            grads: the gradients of this replica, in a pytree like that of :meth:`init`. A leaf whose gradient
                is None is left out of this step. Gradients of integers are ignored.
            examples: the number of examples over which the gradients were averaged. The mean over replicas is
                weighted by it. By default all replicas have the same weight.

        Returns:
            The new parameters. Arrays that were returned before keep their values.

        Raises:
            RuntimeError: called before :meth:`init`.
            TypeError: called inside a function that JAX transforms.
            ValueError: the pytree, or the shape of a gradient, differs from that of the parameters.
            ReplicaMismatch: replicas differ in which leaves have gradients, or in their options. Nothing was
                applied.
        """
        tree = self._initialized("apply()")
        # Waits for collective calls of jitted functions, which JAX runs in other threads.
        jax.effects_barrier()
        jax.block_until_ready(grads)
        self._apply(tree, grads, examples)
        return tree.value()

    @collective_call
    def _apply(self, tree: ParameterTree, grads: Any, examples: int | None) -> None:
        call = f"apply() of {self._name}"
        engine = self._engine("apply()")
        try:
            pairs = tree.arrays(call, grads)
            if not pairs:
                raise ValueError(f"{call}: no leaf has a gradient")
            stepped = [variable for _, variable in pairs]
            self._updates.prepare("" if len(pairs) == len(tree.trained) else tree.absent(stepped), examples)
        except Exception as error:
            engine.coordinator.broadcast_error(call, error)
            raise
        self._updates.apply_gradients(pairs)

    # -- the state
    def state_dict(self) -> dict[str, Any]:
        """Returns the state as NumPy arrays: ``"count"``, the parameters by their paths, and their slots.

        For example ``"params['w']"`` and ``"params['w']/mu"``. Slots have optax's names.
        """
        return state_of(self._initialized("state_dict()"), self._updates)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state of :meth:`state_dict`. Afterwards :attr:`params` has the restored parameters.

        All replicas must load the same state. The next step compares them.

        Raises:
            KeyError: an entry is missing. Nothing was changed.
            ValueError: the state is that of another pytree. Nothing was changed.
        """
        tree = self._initialized("load_state_dict()")
        load_state(tree, self._updates, self._engine("load_state_dict()").parameters, state)

    def means(self) -> Any:
        """Returns the parameters to evaluate, as ``schedule_free_eval_params`` does."""
        tree = self._initialized("the parameters to evaluate")
        return tree.with_arrays(self._updates.means(tree.variables))

    def stats(self) -> dict[str, Any]:
        """Returns where the time of the job went, as in :func:`distopt.report`, as plain numbers.

        Not collective.

        ``"iterations"`` counts the steps of this optimizer. In a job of one replica it is the only entry.
        """
        return self._updates.stats()

    def describe(self) -> str:
        """Prints and returns the pipeline of a step.

        For example: ``mean over 4 replicas -> clip global norm 1 -> adam(learning_rate=0.001, ...)``.
        """
        return self._updates.describe()
