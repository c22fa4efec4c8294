"""What belongs to which output of a model: losses, metrics, labels, weights."""

from __future__ import annotations

from typing import Any

from distopt.core.nest import flatten

__all__ = ["part_of_each", "per_output"]

_NESTED = (list, tuple, dict)


def per_output(spec: Any, y_pred: Any, argument: str, missing: Any = None) -> list[tuple[str, Any]]:
    """``(output name, its part of spec)`` for each output, in the order of :func:`flatten`.

    Args:
        spec: one for all outputs, or a list or dict of one for each.
        y_pred: the model's outputs.
        argument: what ``spec`` is, for error texts.
        missing: what outputs get that a dict does not name; None: it must name all.

    Raises:
        ValueError: a list of another length, or a dict with other keys, than the model's outputs.
    """
    names = _names(y_pred)
    if isinstance(spec, dict):
        _check_keys(spec, names, argument, every=missing is None)
        return [(name, spec.get(name, missing)) for name in names]
    if isinstance(spec, (list, tuple)):
        if len(spec) != len(names):
            raise ValueError(f"{argument} has {len(spec)} entries for the {len(names)} outputs of the model")
        return list(zip(names, spec, strict=True))
    return [(name, spec) for name in names]


def part_of_each(value: Any, y_pred: Any, argument: str) -> list[Any]:
    """The part of labels or sample weights for each output, in the order of :func:`flatten`.

    Args:
        value: nested as the outputs are, or a dict by their names. Of ``sample_weight`` one array is for all
            outputs, and a dict may leave some out: their part is None.
        y_pred: the model's outputs.
        argument: "y" or "sample_weight".

    Raises:
        ValueError: other keys, or another number of arrays, than the model has outputs.
    """
    if not (isinstance(value, _NESTED) or isinstance(y_pred, _NESTED)):
        return [value]
    names = _names(y_pred)
    weights = argument == "sample_weight"
    if value is None or (weights and not isinstance(value, _NESTED)):
        return [value] * len(names)
    if isinstance(value, dict) and (len(names) > 1 or isinstance(y_pred, dict)):
        _check_keys(value, names, argument, every=not weights)
        return [value.get(name) for name in names]
    leaves = flatten(value)
    if len(leaves) != len(names):
        raise ValueError(f"the model has {len(names)} outputs; {argument} holds {len(leaves)} arrays")
    return leaves


def _names(y_pred: Any) -> list[str]:
    if isinstance(y_pred, dict):
        return sorted(y_pred)
    return [f"output_{i + 1}" for i in range(len(flatten(y_pred)))]


def _check_keys(value: dict[str, Any], names: list[str], argument: str, every: bool) -> None:
    if not set(value) <= set(names) or (every and len(value) < len(names)):
        raise ValueError(f"{argument} has the keys {sorted(value)}; the model's outputs are {names}")
