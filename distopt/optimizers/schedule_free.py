"""ScheduleFree: replaces the schedule of another optimizer by averaging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.assignment import assign_alike
from distopt.core.checks import as_config, shown
from distopt.core.dtypes import arithmetic_dtype, is_narrow
from distopt.core.keywords import KnownArguments
from distopt.core.variable import Variable
from distopt.distribute import get_replica_context
from distopt.engine.plan import PlanCache
from distopt.engine.rule import Rule
from distopt.engine.schedule_free import Z, schedule_free
from distopt.optimizers.identify import deserialize, serialize
from distopt.optimizers.limits import FRACTION, within
from distopt.optimizers.nadam import Nadam
from distopt.optimizers.rule_optimizer import RuleOptimizer
from distopt.optimizers.trust_ratio_optimizer import TrustRatioOptimizer
from distopt.typing import Array

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ScheduleFree"]

#: Optimizers that cannot be wrapped: their updates are not elementwise, or need state of past steps.
_OTHERS = (TrustRatioOptimizer, Nadam)


class ScheduleFree(KnownArguments, RuleOptimizer):
    """Trains without a learning-rate schedule and without a fixed number of steps.

    The inner optimizer updates z. Gradients are computed at ``y = (1 - beta_1) * z + beta_1 * x``, where x is
    the mean of all z. The variables hold y during training. Evaluate the model with x, which the variables
    hold after :meth:`eval`. In models, ``fit`` and the other methods do this: they evaluate, predict and save
    with x, and ``fit`` leaves x in the model.

    Args:
        inner_optimizer: SGD, Adam or another optimizer with a compiled rule. It has made no steps and will
            make none itself. Its learning rate, clips, weight decay (which acts on y) and other arguments
            apply. It should have no momentum; ``beta_1`` replaces it.
        beta_1: the position of y between z (0) and x (1); above 0, at most 1.
        name: prefix of the names of its variables.

    Raises:
        TypeError: ``inner_optimizer`` is not an optimizer, has no compiled rule, or is LAMB, LARS or Nadam.
        ValueError: it has been used, or ``beta_1`` is out of range.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682. As in Keras 3, all steps have
    the same weight in the means.
    """

    def __init__(
        self, inner_optimizer: RuleOptimizer, beta_1: float = 0.9, name: str | None = "ScheduleFree"
    ) -> None:
        inner = _checked(inner_optimizer)
        super().__init__(name, inner.gradient_aggregator, inner.gradient_transformers)
        self.beta_1 = float(within(FRACTION, beta_1, "beta_1"))
        if self.beta_1 == 0:
            raise ValueError(
                "beta_1 of ScheduleFree must be above 0, received: 0: gradients would not depend on x"
            )
        self.inner_optimizer = inner
        self._hypers, self._initial_decay = inner._hypers, inner._initial_decay
        self._clip, self._nonfinite = inner._clip, inner._nonfinite
        self.weight_decay, self._factors, self._average = inner.weight_decay, inner._factors, inner._average
        self._plans = PlanCache(self._factors.kind)
        self._evaluating: Variable | None = None
        inner._slots = self._slots

    # -- the step
    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return schedule_free(self.inner_optimizer._rule(coefficients))

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), dtype.type(self._steps_made() + 1)
        self.inner_optimizer._iterations = self._iterations  # it needs the count, but makes no steps itself
        beta, share = dtype.type(self.beta_1), one / step
        return {
            **self.inner_optimizer._coefficients(lr, dtype),
            "beta_1_t": beta,
            "one_minus_beta_1_t": one - beta,
            "share_t": share,
            "one_minus_share_t": one - share,
        }

    def _create_all_weights(self, var_list: list[Variable]) -> None:
        super()._create_all_weights(var_list)
        if self._evaluating is None:
            self._evaluating = self.add_weight("evaluating", shape=[], dtype=np.int64, trainable=False)
            self._slots.weights.append(self._evaluating)

    def _create_slots(self, var_list: list[Variable]) -> None:
        for variable in self._slots.lacking(var_list, (Z,)):
            self.add_slot(variable, Z, variable.numpy())
        super()._create_slots(var_list)

    def _check_hypers(self) -> None:
        if self._is_evaluating:
            raise RuntimeError(
                f"optimizer {self._name!r}: the variables hold the weights for evaluation: call "
                "optimizer.train() before the forward pass"
            )
        super()._check_hypers()

    # -- the two sets of weights
    @property
    def _is_evaluating(self) -> bool:
        return self._evaluating is not None and bool(self._evaluating.scalar())

    def train(self) -> None:
        """Sets the variables to y, the values for training, if they are not. Call it on all replicas."""
        if self._is_evaluating:
            self._put([(v, _between(v, z, self.beta_1)) for v, z in self._pairs()], evaluating=False)

    def eval(self) -> AbstractContextManager[None]:
        """Sets the variables to x, the values for evaluation, if they are not. Call it on all replicas.

        Returns:
            a context manager. After ``with optimizer.eval():`` the variables are y again, bit for bit.
        """
        kept: list[tuple[Variable, Array]] = []
        if self._evaluating is not None and not self._is_evaluating:
            kept = [(variable, variable.numpy()) for variable, _ in self._pairs()]
            self._put([(v, _mean(v, z, self.beta_1)) for v, z in self._pairs()], evaluating=True)
        return _Evaluation(self, kept)

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Sets all variables that it trains to the values for evaluation, like :meth:`eval`."""
        self.eval()

    def _pairs(self) -> list[tuple[Variable, Variable]]:
        return [(variable, slot) for variable, name, slot in self._slots.owners() if name == Z]

    def _put(self, values: Sequence[tuple[Variable, Array]], evaluating: bool) -> None:
        context = get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            # A barrier: all replicas that share variables have read the old values.
            context.all_reduce("sum", 0)
        for variable, value in values:
            assign_alike(variable, value)
        assert self._evaluating is not None
        assign_alike(self._evaluating, int(evaluating))

    # -- configs
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            "name": self._name,
            "inner_optimizer": serialize(self.inner_optimizer),
            "beta_1": self.beta_1,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """See Optimizer."""
        arguments = as_config(config, f"optimizer {cls.__name__}")
        inner = arguments.pop("inner_optimizer", None)
        return cls(deserialize(inner, custom_objects), **arguments)


class _Evaluation(AbstractContextManager[None]):
    """Restores the values for training, if there are any to restore."""

    def __init__(self, optimizer: ScheduleFree, kept: list[tuple[Variable, Array]]) -> None:
        self._optimizer, self._kept = optimizer, kept

    def __exit__(self, *_: object) -> None:
        if self._kept:
            self._optimizer._put(self._kept, evaluating=False)


def _checked(inner: Any) -> RuleOptimizer:
    if not isinstance(inner, RuleOptimizer) or isinstance(inner, (ScheduleFree, *_OTHERS)):
        raise TypeError(
            "inner_optimizer must be an optimizer with a compiled rule, such as SGD, but not LAMB, LARS or "
            f"Nadam; got {shown(inner)}"
        )
    if inner._iterations is not None:
        raise ValueError(f"inner_optimizer {inner._name!r} has already made steps: pass a new one")
    return inner


def _mean(y: Variable, z: Variable, beta_1: float) -> Array:
    """Computes x from y and z."""
    (a, b), beta = _wide(y, z), _number(beta_1, y)
    return np.asarray((a - (1 - beta) * b) / beta, y.dtype)


def _between(x: Variable, z: Variable, beta_1: float) -> Array:
    """Computes y from x and z."""
    (a, b), beta = _wide(x, z), _number(beta_1, x)
    return np.asarray((1 - beta) * b + beta * a, x.dtype)


def _number(beta_1: float, variable: Variable) -> Any:
    return _computed_in(variable).type(beta_1)


def _wide(*variables: Variable) -> list[Array]:
    return [v.numpy().astype(_computed_in(v), copy=False) for v in variables]


def _computed_in(variable: Variable) -> np.dtype[Any]:
    return np.dtype(np.float32) if is_narrow(variable.dtype) else arithmetic_dtype(variable.dtype)
