"""Records what the optimizers of Keras 3 do: ``python record.py`` runs each case of ``cases/``.

Needs Keras 3.15 (recorded with KERAS_BACKEND=jax, JAX_ENABLE_X64=1). A case is a JSON file with

    {"optimizer": "Lamb", "kwargs": {...}, "dtype": "float32", "steps": 30, "excluded": ["bias"]}

``excluded`` (may be missing) are names for exclude_from_weight_decay; ``"finalize": true`` calls
finalize_variable_values after the last step. Variables and gradients are those of
:func:`problem`; the recording, ``recorded/<case>.json``, has the variables' values after the last step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

SHAPES = {"kernel": (7, 5), "embedding": (4, 2, 3), "bias": (5,), "scale": ()}
HERE = Path(__file__).parent


def problem(dtype: str, steps: int) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Initial values and the gradients of each step, by name."""
    generator = np.random.default_rng(7)
    values = {name: np.asarray(generator.normal(size=shape), dtype) for name, shape in SHAPES.items()}
    gradients = [
        {name: np.asarray(generator.normal(size=shape), dtype) for name, shape in SHAPES.items()}
        for _ in range(steps)
    ]
    return values, gradients


def record(case: dict) -> dict[str, list]:
    """The values after all steps, as the real optimizer makes them."""
    import keras

    values, gradients = problem(case["dtype"], case["steps"])
    keras.backend.set_floatx(case["dtype"])
    if case["dtype"] == "float64":
        _reduce_in_float64()
    variables = {n: keras.Variable(v, dtype=case["dtype"], name=n) for n, v in values.items()}
    optimizer = getattr(keras.optimizers, case["optimizer"])(**case["kwargs"])
    if "excluded" in case:
        optimizer.exclude_from_weight_decay(var_names=case["excluded"])
    optimizer.build(list(variables.values()))
    for each in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(each[n]) for n in variables], list(variables.values()))
    if case.get("finalize"):
        optimizer.finalize_variable_values(list(variables.values()))
    return {n: np.asarray(v.value, np.float64).tolist() for n, v in variables.items()}


def _reduce_in_float64() -> None:
    """Keras computes means and norms of float64 in float32; the formulas are what is recorded."""
    import jax.numpy as jnp
    from keras.src import ops

    ops.mean = lambda x, **where: jnp.mean(ops.convert_to_tensor(x), **where)
    ops.norm = lambda x, **where: jnp.linalg.norm(ops.convert_to_tensor(x), **where)


def main() -> None:
    """Records the cases that have no recording yet, or those named."""
    for path in sorted((HERE / "cases").glob("*.json")):
        recorded = HERE / "recorded" / path.name
        if path.stem in sys.argv[1:] or not recorded.exists():
            recorded.parent.mkdir(exist_ok=True)
            recorded.write_text(json.dumps(record(json.loads(path.read_text()))) + "\n")


if __name__ == "__main__":
    main()
