"""summary(): a model's layers as a table."""

from __future__ import annotations

from typing import Any

from distopt.keras.layers.layer import Layer

__all__ = ["summary_text"]


def summary_text(model: Layer, layers: list[Layer], shapes: dict[Layer, Any]) -> str:
    """The table: each layer's name and class, its output's shape, and how many weights it has.

    Args:
        model: the model.
        layers: its layers, in order.
        shapes: output shapes, as far as they are known.
    """
    rows = [("Layer (type)", "Output shape", "Params")]
    for layer in layers:
        shape = shapes.get(layer)
        shown = "?" if shape is None else str(shape).replace("None", "batch")
        rows.append((f"{layer.name} ({type(layer).__name__})", shown, f"{layer.count_params():,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    rule = "-" * len(lines[0])
    trained = sum(weight.size for weight in model.trainable_weights)
    rest = sum(weight.size for weight in model.non_trainable_weights)
    return "\n".join(
        [
            f'Model "{model.name}"',
            rule,
            lines[0],
            rule,
            *lines[1:],
            rule,
            f"{trained + rest:,} weights: {trained:,} trained, {rest:,} not",
        ]
    )
