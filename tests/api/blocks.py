"""Runs a code block of a document as it is printed there, shown outputs included."""

import ast
import doctest
import re
import textwrap

import numpy as np

import distopt as tf

# The only lines that a reader changes.
IMPORTS = {
    "from tensorflow import keras": "from distopt import keras",
    "from tensorflow.keras import layers": "from distopt.keras import layers",
}
# What the documents leave to the reader in angle brackets, as free names.
PLACEHOLDERS = {
    "<call_loss_function>": "call_loss_function()",
    "<list_of_variables>": "list_of_variables",
}
OUTPUT = re.compile(r"<tf\.|Training \.\.\.|\d+$")


def run(block, **free):
    """Runs the block and returns its names.

    A line such as ``3`` or ``<tf.Variable...`` is what the expression before it shows; it is compared as
    doctest does.
    """
    space = {"tf": tf, "np": np, **free}
    pending = []
    for line in textwrap.dedent(block).strip("\n").splitlines():
        if OUTPUT.match(line):
            shown = _execute(pending, space)
            if line != "Training ...":  # the progress bar goes to the terminal
                assert shown is not None, f"nothing is shown before {line!r}"
                assert doctest.OutputChecker().check_output(line, shown, doctest.ELLIPSIS), (line, shown)
            pending = []
        else:
            for left_open, name in PLACEHOLDERS.items():
                line = line.replace(left_open, name)
            pending.append(IMPORTS.get(line, line))
    _execute(pending, space)
    return space


def _execute(lines, space):
    """Runs the lines; the repr of the last statement if it is an expression."""
    statements = ast.parse("\n".join(lines)).body
    last = statements.pop() if statements and isinstance(statements[-1], ast.Expr) else None
    exec(compile(ast.Module(statements, []), "<document>", "exec"), space)
    if last is None:
        return None
    return repr(eval(compile(ast.Expression(last.value), "<document>", "eval"), space))
