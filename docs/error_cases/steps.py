"""What is wrong with a step, on one replica as on many."""

from .case import Case

_SETUP = """\
w, b = tf.Variable([1.0, 2.0], name="w"), tf.Variable(0.0, name="b")
optimizer = tf.optimizers.SGD(0.1)
"""

CASES = [
    Case(
        "shape",
        "The gradient has another shape than the variable. Nothing is broadcast.",
        "Look at how the loss uses the variable; reshape the gradient.",
        _SETUP
        + """\
optimizer.apply_gradients([([1.0, 2.0, 3.0], w)])  # here
""",
    ),
    Case(
        "dtype",
        "The gradient has another dtype than the variable.",
        "Cast it as the message says, or make the variable with that dtype.",
        _SETUP
        + """\
optimizer.apply_gradients([(np.ones(2), w)])  # here
""",
    ),
    Case(
        "whole numbers",
        "The variable holds whole numbers, which have no gradients.",
        "Leave it out of the pairs, or make it a float: `tf.Variable([1.0])`.",
        _SETUP
        + """\
optimizer.apply_gradients([(np.ones(1, "i4"), tf.Variable([1], name="steps"))])  # here
""",
    ),
    Case(
        "swapped pairs",
        "A pair is (variable, gradient).",
        "Turn it round: `zip(gradients, variables)`.",
        _SETUP
        + """\
optimizer.apply_gradients([(w, np.ones(2, 'f4'))])  # here
""",
    ),
    Case(
        "no pairs",
        "Gradients alone were given, without their variables.",
        "Pass `zip(gradients, variables)`.",
        _SETUP
        + """\
optimizer.apply_gradients([np.ones(2, 'f4'), np.ones((), 'f4')])  # here
""",
    ),
    Case(
        "index",
        (
            "A row of sparse gradients is beyond the last row of the variable: mostly a word "
            "number that is too high."
        ),
        "Make the variable larger, or look for the wrong number in the data.",
        _SETUP
        + """\
rows = tf.IndexedSlices(np.ones(1, 'f4'), np.array([2]), (2,))
optimizer.apply_gradients([(rows, w)])  # here
""",
    ),
    Case(
        "sparse with constraint",
        ("A variable with a constraint got sparse gradients, of which the constraint would see a part only."),
        "Drop the constraint, or pass the gradient's `to_dense()`.",
        _SETUP
        + """\
v = tf.Variable(np.ones((3, 1), "f4"), name="v", constraint=tf.keras.constraints.NonNeg())
rows = tf.IndexedSlices(np.ones((1, 1), 'f4'), np.array([2]), (3, 1))
optimizer.apply_gradients([(rows, v)])  # here
""",
    ),
    Case(
        "no gradients",
        (
            "All gradients are None: the loss does not depend on these variables, or was computed"
            " outside of the tape."
        ),
        "Compute the loss inside `with tf.GradientTape() as tape:`, from the variables themselves.",
        _SETUP
        + """\
with tf.GradientTape() as tape:
    pass
loss = w * 2
optimizer.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b]))  # here
""",
    ),
    Case(
        "not finite",
        'A gradient holds NaN or infinity, and `on_nonfinite="raise"` was asked for.',
        (
            "Lower the learning rate, clip, look for a division by zero; or leave such steps out "
            'with `on_nonfinite="skip"`.'
        ),
        _SETUP
        + """\
optimizer = tf.optimizers.SGD(0.1, on_nonfinite="raise")
optimizer.apply_gradients([([1.0, np.nan if rank else 1.0], w)])  # here
""",
    ),
    Case(
        "loss without a tape",
        "`minimize` got the loss's value, from which no gradient can be found.",
        "Pass a function that computes the loss, `minimize(lambda: ..., [w])`, or the tape.",
        _SETUP
        + """\
optimizer.minimize(w * 2, [w])  # here
""",
    ),
    Case(
        "function that no tape follows",
        "The loss calls a NumPy function whose derivative is not known.",
        "Write it with others, wrap it with `distopt.autodiff.primitive`, or say `stop_gradient`.",
        _SETUP
        + """\
optimizer.minimize(lambda: np.sum(np.nextafter(w, 1.0)), [w])  # here
""",
    ),
    Case(
        "assigned by item",
        "Variables are not arrays.",
        "Build the new value and call `assign`, or `assign_add`.",
        _SETUP
        + """\
w[0] = 3.0  # here
""",
    ),
    Case(
        "shape of a value",
        "The assigned value has another shape than the variable.",
        "Make a new variable, or assign a value of the variable's shape.",
        _SETUP
        + """\
w.assign([1.0, 2.0, 3.0])  # here
""",
    ),
    Case(
        "clip",
        "A negative clip.",
        "Give a number above 0, or leave it out.",
        """\
optimizer = tf.optimizers.SGD(0.1, clipnorm=-1.0)  # here
""",
    ),
    Case(
        "unknown argument",
        "The optimizer has no such argument.",
        "Compare with the names in the message.",
        """\
optimizer = tf.optimizers.SGD(0.1, momentun=0.9)  # here
""",
    ),
    Case(
        "two clips",
        "Both `clipnorm` and `global_clipnorm`.",
        "Pass one of them.",
        """\
optimizer = tf.optimizers.SGD(0.1, clipnorm=1.0, global_clipnorm=1.0)  # here
""",
    ),
]
