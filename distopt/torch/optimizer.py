"""Optimizer: PyTorch's optimizers with a step over all replicas."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, TypedDict

import torch

from distopt.core.keywords import argument_names, refuse_unknown
from distopt.core.numbers import as_clip
from distopt.distribute import collective_call, require_replica_context
from distopt.torch.eager import eager
from distopt.torch.names import module_behind
from distopt.torch.pipeline import Pipeline
from distopt.torch.rules.update_rule import ParameterUpdate

__all__ = ["Optimizer", "StepOptions"]


class StepOptions(TypedDict, total=False):
    """The options that all optimizers take in addition to PyTorch's arguments.

    Attributes:
        aggregator: combines the gradients of all replicas. An aggregator of ``distopt.aggregators``, its name
            or its config, or a function from ``(gradient, variable)`` pairs to pairs. By default the mean.
        clip_grad_norm: the largest norm of all aggregated gradients together. Same formula as
            ``torch.nn.utils.clip_grad_norm_``.
        clip_grad_value: the largest absolute value of an element of the aggregated gradients. Applied before
            ``clip_grad_norm``.
        on_nonfinite: what to do about NaN and infinity in the gradients of any replica: ``"propagate"``,
            ``"raise"``, ``"skip"`` or ``"zero"``. See ``distopt.optimizers.Optimizer``.
        unused: what to do about a parameter that has a gradient on some replicas only. ``"error"`` raises;
            ``"zero"`` uses zeros on the others and costs one more exchange a step.
    """

    aggregator: Any
    clip_grad_norm: float | None
    clip_grad_value: float | None
    on_nonfinite: str
    unused: str


#: Keras's name of an argument -> PyTorch's, for the error message.
_KERAS = {
    "clipnorm": "clip_grad_norm",
    "clipvalue": "clip_grad_value",
    "decay": "weight_decay",
    "epsilon": "eps",
    "global_clipnorm": "clip_grad_norm",
    "gradient_aggregator": "aggregator",
    "learning_rate": "lr",
}


def check_options(kind: type, options: Mapping[str, Any]) -> None:
    """Checks the names of ``options`` and the values of the clips.

    Args:
        kind: the class of the optimizer, whose constructor arguments are accepted too.
        options: see StepOptions.

    Raises:
        TypeError: an unknown name.
        ValueError: a clip that is not a positive number.
    """
    known = [*argument_names(kind), *StepOptions.__annotations__]
    for name in options:
        if name in _KERAS and name not in known:
            raise TypeError(f"{kind.__name__}() has no argument {name!r}: PyTorch calls it {_KERAS[name]!r}")
    refuse_unknown(
        kind.__name__, [name for name in options if name not in StepOptions.__annotations__], known
    )
    for name in ("clip_grad_norm", "clip_grad_value"):
        if options.get(name) is not None:
            as_clip(options[name], name)


class Optimizer(torch.optim.Optimizer):
    """Base class of all optimizers: aggregates gradients and makes the same update on all replicas.

    Each optimizer derives from PyTorch's optimizer of the same name, with the same arguments, defaults and
    results. All replicas create it together, and all parameters get the values of replica 0. ``foreach`` and
    ``fused`` have no effect: an update is always one pass over memory.
    """

    #: The update algorithm.
    _update: ClassVar[ParameterUpdate]
    #: Tells ``torch.amp.GradScaler`` to pass ``grad_scale`` and ``found_inf`` to step() instead of skipping
    #: the step itself, so that all replicas skip it together.
    _step_supports_amp_scaling = True
    #: The class of the wrapper that has taken over the parameters, such as "ScheduleFree"; "" if none has.
    _taken_by = ""

    # -- construction
    @contextmanager
    def _over_replicas(self, params: Any, options: Mapping[str, Any]) -> Iterator[Any]:
        """Wraps the call of PyTorch's constructor: checks and stores the options, then shares the parameters.

        Yields:
            What to pass to PyTorch's constructor as ``params``.
        """
        check_options(type(self), options)
        self._set_up(module_behind(params), options)
        yield params.parameters() if isinstance(params, torch.nn.Module) else params
        self._made = True
        self._add_parameters()

    def _set_up(self, module: torch.nn.Module | None, options: Mapping[str, Any]) -> None:
        self._made, self._options = False, dict(options)
        self._accumulates = self._aggregated = False
        name = type(self).__name__
        self._pipeline = Pipeline(name, self._update, lambda: self.param_groups, module, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, with the values of replica 0. Collective."""
        before = len(self.param_groups)
        try:
            with self._error_barrier("add_param_group") if self._made else nullcontext():
                # The function without torch's decorator, which imports the compiler and takes seconds.
                inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)
                _check_group(self.param_groups[-1], type(self).__name__)
            if self._made:
                self._add_parameters()
        except BaseException:
            del self.param_groups[before:]
            raise

    def _error_barrier(self, call: str) -> AbstractContextManager[None]:
        return self._pipeline.error_barrier(call, require_replica_context(f"{call}()"))

    @collective_call
    def _add_parameters(self) -> None:
        self._pipeline.add_parameters()

    # -- a step
    @eager
    @torch.no_grad()
    @collective_call
    def step(self, closure: Callable[[], Any] | None = None, *, examples: int | None = None) -> Any:
        """Makes one step on all replicas: aggregates the gradients, clips them and updates the parameters.

        As in PyTorch, a parameter without a gradient is left out. Collective.

        Args:
            closure: a function that recomputes the loss and its gradients.
            examples: the number of examples over which this replica averaged its gradients. The mean over
                replicas is weighted by it. By default all replicas have the same weight.

        Returns:
            The result of the closure, which is this replica's loss. None without a closure.

        Raises:
            ReplicaMismatch: replicas differ in their parameters, in which parameters have gradients, in their
                options, or in values that the program wrote to parameters. Nothing was applied.
            RuntimeError: called inside :meth:`no_sync`.
        """
        with self._error_barrier("step"):
            self._check_step()
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        self._pipeline.step(examples, not self._aggregated, scale, found_inf)
        self._aggregated = False
        return loss

    def _check_step(self) -> None:
        """Raises RuntimeError if a wrapper has taken over the parameters, or within no_sync()."""
        if self._taken_by:
            raise RuntimeError(
                f"{type(self).__name__}.step(): {self._taken_by} has taken over its parameters; call its "
                "step() instead"
            )
        if self._accumulates:
            raise RuntimeError(
                f"{type(self).__name__}.step() within no_sync(): it aggregates gradients: exit the block "
                "before you call it"
            )

    @eager
    @torch.no_grad()
    @collective_call
    def aggregate(self, *, examples: int | None = None) -> None:
        """Replaces the gradients of each replica with the aggregated gradients of all replicas. Collective.

        The next step() uses them as they are. Without this call, code between backward() and step(), such as
        ``torch.nn.utils.clip_grad_norm_``, sees the gradients of this replica only.

        Args:
            examples: as in :meth:`step`.
        """
        self._pipeline.aggregate(examples)
        self._aggregated = True

    @eager
    def zero_grad(self, set_to_none: bool = True) -> None:
        """See ``torch.optim.Optimizer``."""
        super().zero_grad(set_to_none)
        self._pipeline.gradient_watch.forget()
        self._aggregated = False

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Returns a context manager for accumulating gradients, as in DDP. step() raises an error inside it.

        Gradients are not exchanged before step() in any case. The block only documents the intent.
        """
        before, self._accumulates = self._accumulates, True
        try:
            yield
        finally:
            self._accumulates = before

    # -- the state
    @property
    def state(self) -> Any:
        """The state of each parameter, under PyTorch's names.

        Its tensors are copies. Changes take effect in the next step; make them on all replicas.
        """
        return self._pipeline.keeper.view()

    @state.setter
    def state(self, state: Mapping[Any, Any]) -> None:
        if not self._made and not state:
            return  # PyTorch's constructor assigns an empty dict
        self._pipeline.keeper.load(state)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.state.items())
        return {**super().__getstate__(), "state": defaultdict(dict, state), "_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rest = dict(state)
        loaded = rest.pop("state", None)
        if "_pipeline" not in vars(self):  # a new object, made by copy or pickle
            self.param_groups = rest["param_groups"]
            self._set_up(None, rest.pop("_options"))
            self._made = True
        if loaded is not None:
            self.state = loaded
        super().__setstate__(rest)

    def stats(self) -> dict[str, Any]:
        """Returns where the time of the job went, as in :func:`distopt.report`, as plain numbers.

        Not collective.

        ``"iterations"`` counts the steps of this optimizer. In a job of one replica it is the only entry.
        """
        return self._pipeline.updates.stats()

    def describe(self) -> str:
        """Prints and returns the pipeline of a step.

        For example: ``mean over 4 replicas -> clip global norm 1 -> AdamW(lr=0.001, ...)``.
        """
        return self._pipeline.updates.describe()


def _check_group(group: Mapping[str, Any], name: str) -> None:
    """Raises ValueError if a group sets ``differentiable`` or ``capturable``."""
    if group.get("differentiable") or group.get("capturable"):
        raise ValueError(
            f"{name}: differentiable and capturable must be False: parameters are updated outside of "
            f"PyTorch, on the CPU"
        )
