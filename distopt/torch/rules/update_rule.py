"""What an optimizer of ``torch.optim`` does with one parameter: slots, scalars, coefficients, arithmetic."""

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
    """One algorithm of ``torch.optim``, without any state of its own.

    A ``group`` is a mapping with the keys of an element of ``param_groups``; its numbers may be tensors
    of one element. A parameter's state consists of slots, which are arrays, and of scalars. Both have the
    names that ``optimizer.state[parameter]`` has in PyTorch.

    A step of one parameter: ``scalars = advanced(group, scalars)``, then ``coefficients(group, scalars)``,
    then the arithmetic on the parameter, its gradient and its slots.
    """

    #: As in ``torch.optim``; for messages.
    name: ClassVar[str]
    #: The scalars before a parameter's first step. PyTorch keeps an int as an int, a float as a tensor.
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"step": 0.0})
    #: Which of the scalars PyTorch does not keep: no part of a state that is shown to users.
    internal: ClassVar[frozenset[str]] = frozenset()
    #: Slots that only some options need. A state that has them keeps them, whatever the options are.
    optional_slots: ClassVar[frozenset[str]] = frozenset()
    #: Whether PyTorch makes the state where the optimizer is made, not in a parameter's first step.
    has_state_at_once: ClassVar[bool] = False

    @abstractmethod
    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The numbers of a step by name, computed in double precision as PyTorch does.

        Args:
            group: the options of this step.
            scalars: those after this step.
        """

    @abstractmethod
    def slot_shapes(self, group: Mapping[str, Any], shape: Shape) -> dict[str, Shape]:
        """The slots that a parameter of this shape needs, with their shapes, of as many axes."""

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The scalars after one more step."""
        return {**scalars, "step": scalars["step"] + 1}

    def finish(self, group: MutableMapping[str, Any]) -> None:  # noqa: B027
        """Changes what a step that has been made changes in the group itself: nothing, as a rule."""

    def initial(self, group: Mapping[str, Any], slot: str) -> float:
        """What a new slot is filled with."""
        return 0.0

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """The scalars of a parameter whose state is what PyTorch keeps of it; empty before its first step.

        Raises:
            KeyError: a scalar is missing from a state that is not empty.
        """
        return {name: type(first)(state[name] if state else first) for name, first in self.scalars.items()}

    def check_gradient(self, group: Mapping[str, Any], is_sparse: bool) -> None:
        """Does nothing if the algorithm takes such a gradient with these options.

        Args:
            group: the options of this step.
            is_sparse: whether the gradient holds rows of an array, or all of it.

        Raises:
            RuntimeError: it does not; in PyTorch's words where it has any.
        """
        if is_sparse:
            raise RuntimeError(f"{self.name} does not support sparse gradients")


class UpdateRule(ParameterUpdate):
    """An algorithm that updates each element from its own gradient and state alone, in compiled code.

    There is a coefficient for each name in ``rule(group).coefficients``; it is cast to the parameter's dtype.
    """

    @abstractmethod
    def rule(self, group: Mapping[str, Any]) -> AnyRule:
        """The rule that the group's options select."""

    def slot_shapes(self, group: Mapping[str, Any], shape: Shape) -> dict[str, Shape]:
        """The rule's slots, all like the parameter."""
        return dict.fromkeys(self.rule(group).slots, shape)


class WholeUpdate(ParameterUpdate):
    """An algorithm that needs the whole parameter, such as its norm: one replica of a node updates it."""

    @abstractmethod
    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """Updates a parameter and its slots in place.

        Args:
            w: the parameter, contiguous; float16 and bfloat16 as float32. So are the others.
            g: its gradient, which is not to be changed.
            slots: its slots, by name.
            numbers: the coefficients.
        """

    def cost(self, group: Mapping[str, Any], shape: Shape) -> float:
        """What the update of a parameter of this shape costs, in elements that are read and written."""
        return float(prod(shape))


def sign(group: Mapping[str, Any]) -> float:
    """The coefficient of the gradient: -1.0 to maximize."""
    return -1.0 if group["maximize"] else 1.0


def coupled_decay(group: Mapping[str, Any]) -> dict[str, float]:
    """Coefficients of rules that add ``decay`` times the parameter to the gradient, unless it is ``zero``.

    Adding zero times the parameter would not do: an infinite one would become NaN.
    """
    return {"zero": 0.0, "sign": sign(group), "decay": float(group["weight_decay"])}
