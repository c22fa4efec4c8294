"""BaseOptimizer: the settings, hyperparameters and variables of an optimizer, under their Keras names."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from distopt import aggregators
from distopt.core.checks import as_config, as_name, shown
from distopt.core.variable import Variable, VariableAggregation, VariableSynchronization
from distopt.distribute import step_stats
from distopt.engine.clip import Clip
from distopt.engine.plan import PlanCache
from distopt.optimizers import schedules
from distopt.optimizers.config import (
    ClipLimit,
    check_keywords,
    check_transformers,
    clip_config,
    numbered_name,
)
from distopt.optimizers.describe import pipeline_text
from distopt.optimizers.hyper_set import HyperSet, decayed_rate
from distopt.optimizers.limits import FINITE, NOT_NEGATIVE, Limit, within
from distopt.optimizers.moving_average import average_config, moving_average
from distopt.optimizers.nonfinite import NonFinitePolicy
from distopt.optimizers.slot_store import SlotStore
from distopt.optimizers.variable_factors import VariableFactors, multiplier_named
from distopt.optimizers.weights import assign_weights
from distopt.typing import Aggregator, DTypeLike, Shape, Transformer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseOptimizer"]

_MULTIPLIERS = ("learning_rate_multiplier", "weight_decay_multiplier")


class BaseOptimizer(abc.ABC):
    """The part of an optimizer that does not make steps. See Optimizer for its arguments.

    HyperSet, SlotStore and NonFinitePolicy do the work. Programs and subclasses reach them through the
    methods here. The optimizer itself calls these methods too, so an override
    takes effect.
    """

    #: The allowed intervals of hyperparameters. One that is not listed may be any number.
    _limits: ClassVar[Mapping[str, Limit]] = {"learning_rate": FINITE, "decay": NOT_NEGATIVE}

    _clip: Clip | None = None
    clipvalue = ClipLimit("value")
    clipnorm = ClipLimit("norm")
    global_clipnorm = ClipLimit("global_norm")

    def __init__(
        self,
        name: str | None,
        gradient_aggregator: Any,
        gradient_transformers: Iterable[Transformer] | None,
        keywords: Mapping[str, Any],
    ) -> None:
        check_keywords(type(self), keywords)
        self._name = numbered_name(type(self)) if as_name(name) is None else str(name)
        self._hypers = HyperSet(self._name, self._limits)
        self._slots = SlotStore(self._name)
        self._iterations: Variable | None = None
        self._initial_decay: float = keywords.get("decay", 0.0)
        self.gradient_aggregator: Aggregator = aggregators.get(gradient_aggregator)
        self.gradient_transformers: list[Transformer] = check_transformers(gradient_transformers)
        self.clipnorm = keywords.get("clipnorm")
        self.clipvalue = keywords.get("clipvalue")
        self.global_clipnorm = keywords.get("global_clipnorm")
        self.on_nonfinite = keywords.get("on_nonfinite", NonFinitePolicy.PROPAGATE.value)
        self.weight_decay = keywords.get("weight_decay")
        self._average = moving_average(self._name, keywords)
        self._factors = VariableFactors(self._name, *map(keywords.get, _MULTIPLIERS))
        self._plans = PlanCache(self._factors.kind)

    @property
    def on_nonfinite(self) -> str:
        """What to do with NaN and infinity in the gradients of any replica.

        ``"propagate"`` does nothing, like Keras. ``"raise"`` raises FloatingPointError on every replica.
        ``"skip"`` skips the step on every replica. ``"zero"`` sets these elements to zero before the
        gradients are aggregated.

        Raises:
            ValueError: set to anything else.
        """
        return str(self._nonfinite.value)

    @on_nonfinite.setter
    def on_nonfinite(self, policy: str) -> None:
        self._nonfinite = NonFinitePolicy.of(policy)

    # -- weight decay
    @property
    def weight_decay(self) -> float | None:
        """The decoupled weight decay. A step subtracts ``lr * weight_decay * w`` from each variable ``w``.

        The subtraction precedes the update and does not affect its size. None or 0 turns it off. With
        a sparse gradient all rows decay.

        Raises:
            TypeError: set to something that is not a number.
            ValueError: set to a number that is negative or not finite.
        """
        return self._weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        argument = f"weight_decay of optimizer {self._name!r}"
        self._weight_decay = None if value is None else float(within(NOT_NEGATIVE, value, argument))

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Excludes variables from weight decay. Call it before the first step.

        A later call replaces an earlier one.

        Args:
            var_list: variables.
            var_names: regular expressions that are searched in the names of variables, without ``":0"``.

        Raises:
            TypeError: ``var_list`` has something that is not a variable, or ``var_names`` a non-string.
            ValueError: a step has been made, or a regular expression is invalid.
        """
        if self._iterations is not None and self._iterations.scalar() > 0:
            raise ValueError(
                f"exclude_from_weight_decay() of optimizer {self._name!r} must precede the first step"
            )
        self._factors.undecayed.set(var_list, var_names)
        self._plans.clear()

    # -- moving averages
    @property
    def use_ema(self) -> bool:
        """Whether a moving average of each variable is kept, in its slot ``average``."""
        return self._average is not None

    @property
    def ema_momentum(self) -> float | None:
        """The fraction of the average that remains after a step; None without averages."""
        return None if self._average is None else self._average.momentum

    @property
    def ema_overwrite_frequency(self) -> int | None:
        """The number of steps after which variables are set to their averages, repeatedly; None for never."""
        return None if self._average is None else self._average.overwrite_frequency

    def train(self) -> None:  # noqa: B027 - a hook that few need
        """Sets the variables to the values for training. Only ScheduleFree changes them."""

    def eval(self) -> AbstractContextManager[None]:
        """Sets the variables to the values for evaluation, within a ``with`` block or until :meth:`train`.

        Only ScheduleFree changes them.
        """
        return nullcontext()

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Assigns the averages to the variables if ``use_ema`` is set. ``fit`` calls it at its end.

        Args:
            var_list: the variables of the model; those that were never in a step keep their values.
        """
        if self._average is not None:
            self._average.finalize(self, list(var_list))

    # -- hyperparameters, which are attributes too
    def _set_hyper(self, name: str, value: Any) -> None:
        """A hook: sets the hyperparameter ``name``, which becomes an attribute."""
        self._hypers.set(name, value)

    def _get_hyper(self, name: str, dtype: DTypeLike = None) -> Any:
        """A hook: returns the hyperparameter ``name``, cast to ``dtype`` if given, or its schedule."""
        self._create_hypers()
        return self._hypers.get(name, dtype)

    def _create_hypers(self) -> None:
        """A hook: creates variables for the hyperparameters that are numbers."""
        self._hypers.create(self.add_weight)

    def _serialize_hyperparameter(self, name: str) -> Any:
        """A hook: returns the hyperparameter for a config, as a number or the dict of a schedule."""
        return self._hypers.config(name)

    def _decayed_lr(self, var_dtype: DTypeLike) -> Any:
        """A hook: returns the learning rate of this step, after decay: shape (), that dtype."""
        return decayed_rate(self, var_dtype)

    def _hyper_named(self, attribute: str) -> str | None:
        """The hyperparameter behind an attribute, or None; ``lr`` is an old name of ``learning_rate``."""
        name = "learning_rate" if attribute == "lr" else attribute
        return name if name in vars(self).get("_hypers", ()) else None

    def __getattr__(self, name: str) -> Any:
        hyper = self._hyper_named(name)
        if hyper is None:
            # With name and obj, so that Python suggests a similar attribute.
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
        return self._get_hyper(hyper)

    def __setattr__(self, name: str, value: Any) -> None:
        hyper = self._hyper_named(name)
        if hyper is None:
            super().__setattr__(name, value)
        else:
            self._set_hyper(hyper, value)

    def __dir__(self) -> Iterable[str]:
        return sorted({*super().__dir__(), *filter(self._hyper_named, ("lr", *self._hypers))})

    # -- variables
    @property
    def iterations(self) -> Variable:
        """The number of steps made, an int64 variable of shape (). It is created at its first use.

        You can set another variable before that.

        Raises:
            TypeError: set to anything but an integer variable of shape ().
            RuntimeError: set after the first use.
        """
        if self._iterations is None:
            self._iterations = self.add_weight("iter", shape=[], dtype=np.int64, trainable=False)
            self._slots.weights.append(self._iterations)
        return self._iterations

    @iterations.setter
    def iterations(self, variable: Variable) -> None:
        if self._iterations is not None:
            raise RuntimeError(
                "Cannot set `iterations` to a new Variable after the Optimizer weights have been created. "
                f"Use optimizer.iterations.assign(...) instead (optimizer {self._name!r})"
            )
        if not isinstance(variable, Variable) or variable.shape != () or variable.dtype.kind != "i":
            raise TypeError(
                f"`iterations` of optimizer {self._name!r} must be a distopt.Variable of shape () that holds "
                f"an integer; got {shown(variable)}"
            )
        self._iterations = variable
        self._slots.weights.append(variable)

    @property
    def weights(self) -> list[Variable]:
        """The variables of this optimizer in order of creation, then those of its aggregator."""
        own, aggregator = self._slots.weights, self.gradient_aggregator
        others = aggregator.weights if isinstance(aggregator, aggregators.Aggregator) else []
        return [*own, *others] if others else own

    def variables(self) -> list[Variable]:
        """The same as :attr:`weights`."""
        return self.weights

    def get_weights(self) -> list[Any]:
        """Returns copies of the weights: first the step count, then the slots in order of creation."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the values of all weights, or of none if there is an error.

        Args:
            weights: the result of :meth:`get_weights` of an optimizer of the same kind.

        Raises:
            TypeError: ``weights`` is not a list, or an array does not hold numbers.
            ValueError: the number or shape of the arrays is wrong, or the step count is not a count.
        """
        assign_weights(self._name, self.weights, weights)

    def add_weight(
        self,
        name: str,
        shape: Shape,
        dtype: DTypeLike = None,
        initializer: Any = "zeros",
        trainable: bool | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
    ) -> Variable:
        """Creates a variable for the optimizer. It is not added to :attr:`weights`.

        Args:
            name: its name.
            shape: its shape.
            dtype: its dtype, float32 by default.
            initializer: the name of an initializer, a callable ``(shape, dtype)``, or a value.
            trainable: True by default, except with ON_READ.
            synchronization: ON_READ keeps one value per replica.
            aggregation: how values that replicas assign are combined.

        Raises:
            ValueError: the initializer is unknown, or ``trainable`` is True with ON_READ.
        """
        return self._slots.make(name, shape, dtype, initializer, trainable, synchronization, aggregation)

    def add_slot(self, var: Variable, slot_name: str, initializer: Any = "zeros") -> Variable:
        """Returns the slot ``slot_name`` of ``var``. A new one is created and added to :attr:`weights`.

        Args:
            var: the variable that it belongs to.
            slot_name: its name, the same for all variables.
            initializer: the name of an initializer, a callable ``(shape, dtype)``, or a value. A name or
                callable fills the shape of the variable. The dtype is always that of the variable.

        Returns:
            A non-trainable variable, named ``<variable>/<slot_name>``.

        Raises:
            ValueError: the initializer is unknown.
        """
        return self._slots.add(var, slot_name, initializer)

    def get_slot(self, var: Variable, slot_name: str) -> Variable:
        """Returns the slot ``slot_name`` of ``var``.

        Raises:
            KeyError: the variable has no slots, or none of that name.
        """
        return self._slots.get(var, slot_name)

    def get_slot_names(self) -> list[str]:
        """Returns the names of the slots in order of creation; [] before the first step."""
        return self._slots.names

    def _slot_owners(self) -> Iterable[tuple[Variable, str, Variable]]:
        """A hook: for each saved slot, the variable it belongs to, its name, and the slot."""
        return self._slots.owners()

    def _hyper_variables(self) -> dict[str, Variable]:
        """A hook: the hyperparameters that are variables, by name."""
        return self._hypers.variables()

    def _loss_factor(self) -> float:
        """A hook: the factor by which ``fit`` multiplies the parts of a loss; 1 if gradients are summed."""
        return 1.0

    def _update_cost(self, variable: Variable) -> float:
        """The cost of updating a variable, by which updates are distributed over the replicas of a node."""
        return float(variable.size)

    # -- description and configs
    def describe(self) -> str:
        """Prints the current pipeline and returns it as a string.

        For example: ``sum over 4 replicas -> clip global norm 1 -> Adam(learning_rate=0.001, ...)``.
        """
        text = pipeline_text(self)
        print(text)
        return text

    def stats(self) -> dict[str, Any]:
        """Returns where the job's time went, like :func:`distopt.report`, with its own ``"iterations"``."""
        return step_stats(self._steps_made())

    def _title(self) -> str:
        """The name of the update in a description."""
        return type(self).__name__

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values, as JSON can represent them."""
        clips = {name: getattr(self, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
        policy = {} if self.on_nonfinite == "propagate" else {"on_nonfinite": self.on_nonfinite}
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        more = {**decay, **self._factors.config(), **average_config(self._average)}
        return {"name": self._name, **clip_config(clips), **policy, **more}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Creates an optimizer from the result of :meth:`get_config`.

        Args:
            config: not modified. A dict as learning rate is a schedule; ``lr`` is accepted as an old name.
            custom_objects: your own schedules and multipliers by name.

        Raises:
            TypeError: the constructor does not take one of the keys.
            ValueError: a schedule or multiplier is unknown.
        """
        arguments = as_config(config, f"optimizer {cls.__name__}")
        if "lr" in arguments:
            arguments["learning_rate"] = arguments.pop("lr")
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = schedules.deserialize(arguments["learning_rate"], custom_objects)
        for name in _MULTIPLIERS:
            if isinstance(arguments.get(name), str):
                arguments[name] = multiplier_named(arguments[name], name, custom_objects)
        return cls(**arguments)
