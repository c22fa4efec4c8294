"""Data-parallel training for programs started by MPI, with the API of ``tf.keras.optimizers``.

Every replica runs the same program on its own share of the data. ``optimizer.apply_gradients(...)``
sums the gradients of all replicas, transforms them, and applies one identical update everywhere.

>>> import distopt as tf
>>> v = tf.Variable([1.0, 2.0])
>>> opt = tf.optimizers.SGD(learning_rate=0.5)
>>> int(opt.minimize(lambda: v * v, [v]))
1
>>> v.numpy().tolist()
[0.0, 0.0]
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy import bool_ as bool  # noqa: A004
from numpy import complex64, complex128, float16, float32, float64, int8, int16, int32, int64, uint8

from distopt.core import (
    IndexedSlices,
    Tensor,
    Variable,
    VariableAggregation,
    VariableSynchronization,
    constant,
    convert_to_tensor,
)
from distopt.launched import claim as _claim
from distopt.launched import launched as _launched
from distopt.version import __version__

if TYPE_CHECKING:
    from distopt import (
        aggregators,
        autodiff,
        checkpoint,
        compat,
        distribute,
        keras,
        math,
        optimizers,
        random,
        transforms,
    )
    from distopt.autodiff import GradientTape, custom_gradient, stop_gradient
    from distopt.compat.graphs import function
    from distopt.distribute import log_metrics, report, timed
    from distopt.math import (
        abs,  # noqa: A004
        add,
        argmax,
        argmin,
        cast,
        clip_by_global_norm,
        clip_by_norm,
        clip_by_value,
        cos,
        divide,
        equal,
        exp,
        greater,
        less,
        matmul,
        maximum,
        minimum,
        multiply,
        norm,
        ones,
        pow,  # noqa: A004
        reduce_max,
        reduce_mean,
        reduce_min,
        reduce_prod,
        reduce_sum,
        sigmoid,
        sin,
        sqrt,
        square,
        subtract,
        tanh,
        zeros,
    )

__all__ = [
    "GradientTape",
    "IndexedSlices",
    "Tensor",
    "Variable",
    "VariableAggregation",
    "VariableSynchronization",
    "__version__",
    "abs",
    "add",
    "aggregators",
    "argmax",
    "argmin",
    "autodiff",
    "bool",
    "cast",
    "checkpoint",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "compat",
    "complex128",
    "complex64",
    "constant",
    "convert_to_tensor",
    "cos",
    "custom_gradient",
    "distribute",
    "divide",
    "equal",
    "exp",
    "float16",
    "float32",
    "float64",
    "function",
    "greater",
    "int16",
    "int32",
    "int64",
    "int8",
    "keras",
    "less",
    "log_metrics",
    "math",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "norm",
    "ones",
    "optimizers",
    "pow",
    "random",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "report",
    "sigmoid",
    "sin",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
    "tanh",
    "timed",
    "transforms",
    "uint8",
    "zeros",
]

# Loaded when first asked for, so that `import distopt` costs little and the parts can be used alone.
_PARTS = frozenset(
    {
        "aggregators",
        "autodiff",
        "checkpoint",
        "compat",
        "distribute",
        "keras",
        "math",
        "optimizers",
        "random",
        "transforms",
    }
)
#: Of the other names those that are not in ``distopt.math``, and where they are.
_HOMES = {
    "GradientTape": "distopt.autodiff",
    "custom_gradient": "distopt.autodiff",
    "function": "distopt.compat.graphs",
    "log_metrics": "distopt.distribute",
    "report": "distopt.distribute",
    "stop_gradient": "distopt.autodiff",
    "timed": "distopt.distribute",
}


def _show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Shows an error, and ends the job, if the program has not used the part that does so."""
    sys.excepthook = sys.__excepthook__
    with suppress(Exception):
        importlib.import_module("distopt.distribute")  # puts its own hook there
    sys.excepthook(kind, error, trace)


_claim()  # what this process starts from now on is no replica
if _launched() is not None and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _show_error


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"distopt.{name}")
    if name in __all__:
        return getattr(importlib.import_module(_HOMES.get(name, "distopt.math")), name)
    # Named, so that Python can say which one may be meant.
    raise AttributeError(f"module 'distopt' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
