"""Cross-entropies of ``keras.backend``: of each element, and of probabilities by default."""

from __future__ import annotations

from typing import Any

from distopt.keras import losses
from distopt.keras.values import tensor

__all__ = ["binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"]


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """``-(t * log(p) + (1 - t) * log(1 - p))`` of each element."""
    return losses.binary_crossentropy(tensor(target)[..., None], tensor(output)[..., None], from_logits)


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """``-sum(t * log(p))`` over the classes; ``output`` is divided by its sum over them first."""
    return losses.categorical_crossentropy(target, output, from_logits, axis=axis)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """``-log(p)`` of the target class."""
    return losses.sparse_categorical_crossentropy(target, output, from_logits, axis)
