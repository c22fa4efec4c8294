"""ParameterUpdate: the update algorithm of a PyTorch optimizer, for one parameter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from math import prod
from types import MappingProxyType
from typing import Any, ClassVar

from distopt.engine.trust_ratio import AnyRule
from distopt.typing import Array, Shape

__all__ = ["ParameterUpdate", "UpdateRule", "WholeUpdate", "coupled_decay", "sign"]


class ParameterUpdate(ABC):
    """The algorithm of one optimizer. Objects are stateless: options and state are arguments of the methods.

    A ``group`` is an element of ``param_groups``: a mapping of options, whose numbers may be tensors of one
    element. The state of a parameter consists of slots (arrays) and scalars (numbers), under the names that
    they have in PyTorch's ``optimizer.state[parameter]``.

    A step of one parameter computes ``scalars = advanced(group, scalars)``, then ``coefficients(group,
    scalars)``, then updates the parameter and its slots from the gradient and these coefficients.
    """

    #: The name of the optimizer, for messages.
    name: ClassVar[str]
    #: The scalars before a parameter's first step. ``optimizer.state`` shows ints as ints, floats as tensors.
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"step": 0.0})
    #: The scalars that PyTorch does not have, which ``optimizer.state`` therefore does not show.
    internal: ClassVar[frozenset[str]] = frozenset()
    #: Slots that only some options need. A loaded state that has them keeps them even if the options do not.
    optional_slots: ClassVar[frozenset[str]] = frozenset()
    #: Whether PyTorch creates the state with the optimizer, not in the first step of a parameter.
    has_state_at_once: ClassVar[bool] = False

    @abstractmethod
    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The coefficients of a step by name, computed in double precision as PyTorch does.

        Args:
            group: the options of this step.
            scalars: the parameter's scalars after this step, from :meth:`advanced`.
        """

    @abstractmethod
    def slot_shapes(self, group: Mapping[str, Any], shape: Shape) -> dict[str, Shape]:
        """The names and shapes of the slots of a parameter of this shape. They have as many axes as it."""

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The scalars after one more step."""
        return {**scalars, "step": scalars["step"] + 1}

    def finish(self, group: MutableMapping[str, Any]) -> None:  # noqa: B027
        """Updates state that PyTorch keeps in the group itself. Called after each step; most have none."""

    def initial(self, group: Mapping[str, Any], slot: str) -> float:
        """The initial value of all elements of a slot."""
        return 0.0

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """The scalars of a parameter, from its entry in PyTorch's state: a dict, {} before its first step.

        Raises:
            KeyError: a scalar is missing from a state that is not empty.
        """
        return {name: type(first)(state[name] if state else first) for name, first in self.scalars.items()}

    def check_gradient(self, group: Mapping[str, Any], is_sparse: bool) -> None:
        """Checks that the algorithm supports the gradient with these options.

        Args:
            group: the options of this step.
            is_sparse: whether the gradient is sparse, in rows.

        Raises:
            RuntimeError: the gradient is not supported, with PyTorch's message if it has one.
        """
        if is_sparse:
            raise RuntimeError(f"{self.name} does not support sparse gradients")


class UpdateRule(ParameterUpdate):
    """An algorithm that updates each element independently, as a compiled scalar function.

    :meth:`coefficients` returns a value for each name in ``rule(group).coefficients``. Values are cast to the
    dtype in which the rule computes.
    """

    @abstractmethod
    def rule(self, group: Mapping[str, Any]) -> AnyRule:
        """The compiled rule for the group's options."""

    def slot_shapes(self, group: Mapping[str, Any], shape: Shape) -> dict[str, Shape]:
        """The rule's slots, all of the parameter's shape."""
        return dict.fromkeys(self.rule(group).slots, shape)


class WholeUpdate(ParameterUpdate):
    """An algorithm in NumPy that needs whole parameters. One replica of each node runs it for a parameter."""

    @abstractmethod
    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """Updates a parameter and its slots in place.

        All arrays are contiguous. Those of float16 and bfloat16 parameters are passed in float32.

        Args:
            w: the parameter.
            g: the gradient, of the same shape. It must not be changed.
            slots: the slots by name.
            numbers: the coefficients of this step.
        """

    def cost(self, group: Mapping[str, Any], shape: Shape) -> float:
        """The relative cost of the update, by which parameters are distributed over the replicas of a node.

        The unit is that of an algorithm that reads and writes each element once.
        """
        return float(prod(shape))


def sign(group: Mapping[str, Any]) -> float:
    """The factor of the gradient: -1.0 if the group maximizes the loss, else 1.0."""
    return -1.0 if group["maximize"] else 1.0


def coupled_decay(group: Mapping[str, Any]) -> dict[str, float]:
    """The coefficients ``zero``, ``sign`` and ``decay`` of rules that add ``decay * w`` to the gradient.

    Rules compare ``decay`` with ``zero`` first, because ``0 * w`` is NaN for an infinite ``w``.
    """
    return {"zero": 0.0, "sign": sign(group), "decay": float(group["weight_decay"])}
