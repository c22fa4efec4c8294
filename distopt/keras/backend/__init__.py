"""The parts of ``keras.backend`` that ``tf.keras`` programs use: settings, variables, functions.

The functions are thin wrappers of NumPy's. They accept the same arguments, and tapes record them.

>>> from distopt import Variable
>>> v = Variable([1.0, 3.0])
>>> set_value(v, [2.0, 4.0])
>>> float(mean(square(v)))
10.0
"""
# ruff: noqa: A004 (names of Keras that are Python's, too)

from __future__ import annotations

import sys
from typing import Any

from distopt.core.floatx import floatx, set_floatx
from distopt.keras.activations import elu, hard_sigmoid, relu, sigmoid, softmax, softplus, softsign, tanh
from distopt.keras.backend.functions import (
    abs,
    all,
    any,
    argmax,
    argmin,
    batch_flatten,
    cast,
    clip,
    concatenate,
    dot,
    equal,
    exp,
    expand_dims,
    flatten,
    greater,
    greater_equal,
    l2_normalize,
    less,
    less_equal,
    log,
    logsumexp,
    max,
    maximum,
    mean,
    min,
    minimum,
    not_equal,
    one_hot,
    permute_dimensions,
    pow,
    prod,
    repeat_elements,
    reshape,
    round,
    sign,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    stop_gradient,
    sum,
    switch,
    transpose,
    var,
)
from distopt.keras.backend.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from distopt.keras.backend.random import random_normal, random_uniform
from distopt.keras.backend.session import (
    cast_to_floatx,
    clear_session,
    epsilon,
    image_data_format,
    set_epsilon,
    set_image_data_format,
)
from distopt.keras.backend.values import (
    batch_get_value,
    batch_set_value,
    constant,
    count_params,
    dtype,
    eval,
    get_value,
    int_shape,
    ndim,
    ones,
    ones_like,
    set_value,
    shape,
    variable,
    zeros,
    zeros_like,
)

__all__ = [
    "abs",
    "all",
    "any",
    "argmax",
    "argmin",
    "batch_flatten",
    "batch_get_value",
    "batch_set_value",
    "binary_crossentropy",
    "cast",
    "cast_to_floatx",
    "categorical_crossentropy",
    "clear_session",
    "clip",
    "concatenate",
    "constant",
    "count_params",
    "dot",
    "dtype",
    "elu",
    "epsilon",
    "equal",
    "eval",
    "exp",
    "expand_dims",
    "flatten",
    "floatx",
    "get_value",
    "greater",
    "greater_equal",
    "hard_sigmoid",
    "image_data_format",
    "int_shape",
    "l2_normalize",
    "less",
    "less_equal",
    "log",
    "logsumexp",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "ndim",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "permute_dimensions",
    "pow",
    "prod",
    "random_normal",
    "random_uniform",
    "relu",
    "repeat_elements",
    "reshape",
    "round",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_value",
    "shape",
    "sigmoid",
    "sign",
    "softmax",
    "softplus",
    "softsign",
    "sparse_categorical_crossentropy",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "sum",
    "switch",
    "tanh",
    "transpose",
    "var",
    "variable",
    "zeros",
    "zeros_like",
]

_NO_GRAPH = "there are no graphs and sessions here: "
#: What programs look for that cannot be here, and what to do in its place.
_INSTEAD = {
    "function": _NO_GRAPH + "call the layers, or a function of yours, on arrays",
    "get_session": _NO_GRAPH + "get_value(variable) reads a variable",
    "gradients": _NO_GRAPH + "use a GradientTape",
    "in_train_phase": "a layer's call takes the argument training",
    "learning_phase": "a layer's call takes the argument training",
    "placeholder": _NO_GRAPH + "call the layers on arrays",
    "set_learning_phase": "call the model with training=True or training=False",
    "set_session": _NO_GRAPH + "leave the line out",
}


def __getattr__(name: str) -> Any:
    hint = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
    text = f"module {__name__!r} has no attribute {name!r}{hint}"
    raise AttributeError(text, name=name, obj=sys.modules[__name__])
