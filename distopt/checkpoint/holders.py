"""What has state beside variables: how it is read, and put back into the object that the user holds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from distopt.checkpoint.encoding import is_plain
from distopt.checkpoint.foreign import torch_module
from distopt.checkpoint.random_states import check_bits, check_python, check_random_state

__all__ = ["Checked", "GlobalStreams", "StateDict", "Stateful", "holder_of"]


@runtime_checkable
class Stateful(Protocol):
    """An object with a state to save and restore, such as a position in the data.

    A state consists of numbers, strings, arrays, None, and lists, tuples and dicts of them.
    """

    def get_state(self) -> Any:
        """Returns the current state."""

    def set_state(self, state: Any) -> None:
        """Restores a state that :meth:`get_state` returned, in this run or an earlier one."""


@runtime_checkable
class Checked(Protocol):
    """A holder that can tell beforehand whether it could take a state back."""

    def check_state(self, state: Any) -> None:
        """Raises whatever :meth:`Stateful.set_state` would, and changes nothing."""


class _Dict:
    """The plain members of a dict, which is changed in place."""

    def __init__(self, value: dict[Any, Any]) -> None:
        self._value = value

    def get_state(self) -> dict[Any, Any]:
        return {key: item for key, item in self._value.items() if is_plain(item)}

    def check_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise TypeError(f"expected a dict, got {type(state).__name__}")

    def set_state(self, state: dict[Any, Any]) -> None:
        for key in self.get_state():
            del self._value[key]
        self._value.update(state)


class _List:
    """A list, changed in place."""

    def __init__(self, value: list[Any]) -> None:
        self._value = value

    def get_state(self) -> list[Any]:
        return self._value

    def check_state(self, state: Any) -> None:
        if not isinstance(state, list):
            raise TypeError(f"expected a list, got {type(state).__name__}")

    def set_state(self, state: list[Any]) -> None:
        self._value[:] = state


class _Generator:
    """A NumPy generator; its numbers go on where they stood."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._bits = generator.bit_generator

    def get_state(self) -> Any:
        return self._bits.state

    def check_state(self, state: Any) -> None:
        check_bits(state, self.get_state())

    def set_state(self, state: Any) -> None:
        self._bits.state = state


class _RandomState:
    """A generator of NumPy's older kind; its own ``set_state`` takes what ends the process later."""

    def __init__(self, generator: np.random.RandomState) -> None:
        self._generator = generator

    def get_state(self) -> Any:
        return self._generator.get_state(legacy=False)

    def check_state(self, state: Any) -> None:
        check_random_state(state, self.get_state())

    def set_state(self, state: Any) -> None:
        self._generator.set_state(state)


class _PythonRandom:
    """A generator of Python's module ``random``, or the module itself."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def get_state(self) -> Any:
        version, numbers, gauss = self._generator.getstate()
        return version, np.array(numbers, np.uint32), gauss

    def check_state(self, state: Any) -> None:
        check_python(state, self.get_state())

    def set_state(self, state: Any) -> None:
        version, numbers, gauss = state
        self._generator.setstate((version, tuple(map(int, numbers)), gauss))


class StateDict:
    """An object with PyTorch's ``state_dict()`` and ``load_state_dict()``: a module, an optimizer, ...

    Args:
        value: the object.
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    def get_state(self) -> Any:
        """See Stateful."""
        return self._value.state_dict()

    def check_state(self, state: Any) -> None:
        """See Checked. What is no flat dict of tensors or arrays shows when it is loaded."""
        own = self.get_state()
        if not (isinstance(own, dict) and own and all(hasattr(value, "shape") for value in own.values())):
            return
        differences = [
            f"{name!r} is {_shape_in(state, name)} in the checkpoint, {_shape_in(own, name)} here"
            for name in dict.fromkeys([*state, *own])
            if _shape_in(state, name) != _shape_in(own, name)
        ]
        if differences:
            raise ValueError("; ".join(differences[:10]))

    def set_state(self, state: Any) -> None:
        """See Stateful."""
        self._value.load_state_dict(state)

    @classmethod
    def takes(cls, value: Any) -> bool:
        """Whether it is such an object."""
        return not isinstance(value, type) and all(
            callable(getattr(value, name, None)) for name in ("state_dict", "load_state_dict")
        )


def _shape_in(state: Any, name: Any) -> str:
    return str(list(state[name].shape)) if name in state else "missing"


class GlobalStreams:
    """The global generators of NumPy, of Python and, in a program that has imported it, of PyTorch."""

    def __init__(self) -> None:
        self._python = _PythonRandom(random)

    def get_state(self) -> Any:
        """See Stateful."""
        state = {"numpy": np.random.get_state(legacy=False), "python": self._python.get_state()}
        torch = torch_module()
        return state if torch is None else {**state, "torch": torch.get_rng_state().numpy()}

    def check_state(self, state: Any) -> None:
        """See Checked."""
        check_random_state(state["numpy"], np.random.get_state(legacy=False))
        self._python.check_state(state["python"])
        torch = torch_module()
        if torch is not None and "torch" in state:
            torch.Generator().set_state(torch.from_numpy(state["torch"]))

    def set_state(self, state: Any) -> None:
        """See Stateful."""
        np.random.set_state(state["numpy"])
        self._python.set_state(state["python"])
        torch = torch_module()
        if torch is not None and "torch" in state:
            torch.set_rng_state(torch.from_numpy(state["torch"]))


_GENERATORS: tuple[tuple[type, Callable[[Any], Stateful]], ...] = (
    (np.random.Generator, _Generator),
    (np.random.RandomState, _RandomState),
    (random.Random, _PythonRandom),
)


def holder_of(value: Any) -> Stateful | None:
    """The state of a generator, a dict's plain members, a plain list, a Stateful, a StateDict; else None."""
    for kind, holder in _GENERATORS:
        if isinstance(value, kind):
            return holder(value)
    if isinstance(value, dict) and (not value or any(is_plain(item) for item in value.values())):
        return _Dict(value)
    if isinstance(value, list) and is_plain(value):
        return _List(value)
    if isinstance(value, Stateful) and not isinstance(value, type):
        return value
    return StateDict(value) if StateDict.takes(value) else None
