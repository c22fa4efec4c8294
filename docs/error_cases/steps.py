"""What is wrong with a step, on one replica as on many."""

from .case import Case

_SETUP = """\
w, b = tf.Variable([1.0, 2.0], name="w"), tf.Variable(0.0, name="b")
optimizer = tf.optimizers.SGD(0.1)
"""

CASES = [
    Case(
        "shape",
        "The shape of the gradient differs from that of the variable. distopt does not broadcast gradients.",
        "Check how the loss uses the variable, or reshape the gradient.",
        _SETUP
        + """\
optimizer.apply_gradients([([1.0, 2.0, 3.0], w)])  # here
""",
    ),
    Case(
        "dtype",
        "The dtype of the gradient differs from that of the variable.",
        "Cast it as the message shows, or create the variable with that dtype.",
        _SETUP
        + """\
optimizer.apply_gradients([(np.ones(2), w)])  # here
""",
    ),
    Case(
        "whole numbers",
        "The variable holds integers, which have no gradients.",
        "Omit it from the pairs, or use floats: `tf.Variable([1.0])`.",
        _SETUP
        + """\
optimizer.apply_gradients([(np.ones(1, "i4"), tf.Variable([1], name="steps"))])  # here
""",
    ),
    Case(
        "swapped pairs",
        "A pair is (variable, gradient) instead of (gradient, variable).",
        "Swap them: `zip(gradients, variables)`.",
        _SETUP
        + """\
optimizer.apply_gradients([(w, np.ones(2, 'f4'))])  # here
""",
    ),
    Case(
        "no pairs",
        "You passed the gradients without their variables.",
        "Pass `zip(gradients, variables)`.",
        _SETUP
        + """\
optimizer.apply_gradients([np.ones(2, 'f4'), np.ones((), 'f4')])  # here
""",
    ),
    Case(
        "index",
        (
            "A sparse gradient has a row index beyond the last row of the variable, often from a token "
            "id that is too high."
        ),
        "Make the variable larger, or find the wrong index in the data.",
        _SETUP
        + """\
rows = tf.IndexedSlices(np.ones(1, 'f4'), np.array([2]), (2,))
optimizer.apply_gradients([(rows, w)])  # here
""",
    ),
    Case(
        "sparse with constraint",
        ("A variable with a constraint got a sparse gradient. It would see only some of the rows."),
        "Remove the constraint, or pass `gradient.to_dense()`.",
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
            "All gradients are None: the loss does not depend on these variables, or you computed it "
            "outside the tape."
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
        'A gradient contains NaN or infinity, and the optimizer has `on_nonfinite="raise"`.',
        (
            'Lower the learning rate, clip, or look for a division by zero. `on_nonfinite="skip"` skips '
            "such steps."
        ),
        _SETUP
        + """\
optimizer = tf.optimizers.SGD(0.1, on_nonfinite="raise")
optimizer.apply_gradients([([1.0, np.nan if rank else 1.0], w)])  # here
""",
    ),
    Case(
        "loss without a tape",
        "`minimize` got the value of the loss, from which it cannot compute a gradient.",
        "Pass a function that computes the loss, `minimize(lambda: ..., [w])`, or the tape.",
        _SETUP
        + """\
optimizer.minimize(w * 2, [w])  # here
""",
    ),
    Case(
        "function that no tape follows",
        "The loss calls a NumPy function for which distopt has no derivative.",
        "Use other functions, wrap it with `distopt.autodiff.primitive`, or use `stop_gradient`.",
        _SETUP
        + """\
optimizer.minimize(lambda: np.sum(np.nextafter(w, 1.0)), [w])  # here
""",
    ),
    Case(
        "assigned by item",
        "You cannot assign to an item of a variable.",
        "Build the new value and call `assign` or `assign_add`.",
        _SETUP
        + """\
w[0] = 3.0  # here
""",
    ),
    Case(
        "shape of a value",
        "The shape of the value differs from that of the variable.",
        "Create a new variable, or assign a value with the same shape.",
        _SETUP
        + """\
w.assign([1.0, 2.0, 3.0])  # here
""",
    ),
    Case(
        "clip",
        "The clip is negative.",
        "Pass a number of at least 0, or omit it.",
        """\
optimizer = tf.optimizers.SGD(0.1, clipnorm=-1.0)  # here
""",
    ),
    Case(
        "unknown argument",
        "The optimizer does not have this argument.",
        "Use one of the names in the message.",
        """\
optimizer = tf.optimizers.SGD(0.1, momentun=0.9)  # here
""",
    ),
    Case(
        "two clips",
        "The optimizer has both `clipnorm` and `global_clipnorm`.",
        "Pass one of them.",
        """\
optimizer = tf.optimizers.SGD(0.1, clipnorm=1.0, global_clipnorm=1.0)  # here
""",
    ),
]
