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
    """What all optimizers here take besides optax's own arguments.

    Attributes:
        aggregator: what makes one gradient of those of all replicas: any of ``distopt.aggregators``, by
            name, config or itself; or a function from pairs to pairs. The mean by default.
        clip: the largest absolute value of an element of the aggregated gradients, as ``optax.clip``;
            clipped first.
        clip_by_global_norm: the largest norm of all aggregated gradients together, as
            ``optax.clip_by_global_norm``.
        on_nonfinite: what is done about NaN and infinity in the gradients of any replica: ``"propagate"``,
            ``"raise"``, ``"skip"`` or ``"zero"``, see ``distopt.optimizers.Optimizer``.
    """

    aggregator: Any
    clip: float | None
    clip_by_global_norm: float | None
    on_nonfinite: str


#: What gives each trained leaf an algorithm.
LeafRules: TypeAlias = Callable[[ParameterTree, Any], Sequence[LeafUpdate]]


@final
class Optimizer:
    """An optimizer of optax with a step over all replicas. ``dj.adam(...)`` and the like make one.

    It keeps the parameters, and updates them in memory that the replicas of a node share. What it returns
    are copies, which never change.

    Args:
        name: that of the function, for messages.
        rule: the algorithm with its numbers.
        learning_rate: a number, or a function of the number of steps made.
        options: see ApplyOptions.
        weight_decay: likewise, times the parameter, is added to the update.
        mask: a pytree of Booleans like the parameters, or a function that makes it of them: what decays.
        trust_mask: likewise: what has a trust ratio, where the algorithm has any.
        rules: gives each trained leaf its algorithm, from the leaves and the parameters; None if all have
            ``rule``.

    Raises:
        TypeError: an unknown option; a rate that is no number.
        ValueError: a number that makes no sense.
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
        """A number, or a function of the number of steps made. It may be set, on all replicas alike."""
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
        """Takes in parameters, with replica 0's values; collective. Another call begins anew with others.

        Args:
            params: a pytree of arrays on the CPU. Trained are arrays of floating-point or complex numbers;
                of other leaves arrays of integers and Booleans get replica 0's values, too, and the rest
                stays as it is.

        Returns:
            the same pytree, of arrays that nothing changes later.

        Raises:
            TypeError: inside of a function that JAX transforms.
            ValueError: there is nothing to train, or a leaf is on a GPU.
            ReplicaMismatch: replicas have other pytrees.
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
        """What is done to each variable, by the masks."""
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
        """The parameters now. They may be set, on all replicas alike, to a pytree like that of init()."""
        return self._initialized("params").value()

    @params.setter
    def params(self, params: Any) -> None:
        tree = self._initialized("params")
        memory = self._engine("params").parameters
        for value, variable in tree.arrays(f"params of {self._name}", params):
            memory.assign(variable, value)

    def _initialized(self, call: str) -> ParameterTree:
        if self._tree is None:
            raise RuntimeError(f"{call} of {self._name} before init(params), which takes in the parameters")
        return self._tree

    def _engine(self, call: str) -> StepEngine:
        return StepEngine.of(require_replica_context(f"{call} of {self._name}"))

    # -- a step
    def apply(self, grads: Any, *, examples: int | None = None) -> Any:
        """One step on all replicas: aggregate the gradients, clip them, update all parameters alike.

        Args:
            grads: a pytree like that of :meth:`init`, of this replica's gradients. None stands for a leaf
                that is left out of this step; so do the gradients of integers.
            examples: how many examples they are the mean of; the mean over replicas is weighed by it. All
                replicas weigh alike without it.

        Returns:
            the new parameters. Arrays that were returned before keep their values.

        Raises:
            RuntimeError: before :meth:`init`.
            TypeError: inside of a function that JAX transforms.
            ValueError: another pytree, or a gradient of another shape.
            ReplicaMismatch: replicas have gradients of other leaves, or other options. Nothing was applied.
        """
        tree = self._initialized("apply()")
        jax.effects_barrier()  # what JAX still calls, in threads of its own, comes first
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
        """The state as NumPy arrays, copied: ``"count"``, each parameter by its path, and its slots.

        For example ``"params['w']"`` and ``"params['w']/mu"``; slots have the names of optax.
        """
        return state_of(self._initialized("state_dict()"), self._updates)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state, parameters included; :attr:`params` has them then.

        All replicas load the same state; the next step compares.

        Raises:
            KeyError: it lacks something. Nothing was changed.
            ValueError: it is that of another pytree. Nothing was changed.
        """
        tree = self._initialized("load_state_dict()")
        load_state(tree, self._updates, self._engine("load_state_dict()").parameters, state)

    def means(self) -> Any:
        """The parameters to evaluate of a schedule-free optimizer: see ``schedule_free_eval_params``."""
        tree = self._initialized("the parameters to evaluate")
        return tree.with_arrays(self._updates.means(tree.variables))

    def stats(self) -> dict[str, Any]:
        """Where the job's time went, as :func:`distopt.report` tells it, in plain numbers; not collective.

        ``"iterations"`` are this optimizer's own; one replica alone has nothing else to tell.
        """
        return self._updates.stats()

    def describe(self) -> str:
        """Prints the pipeline in force and returns it.

        For example: ``mean over 4 replicas -> clip global norm 1 -> adam(learning_rate=0.001, ...)``.
        """
        return self._updates.describe()
