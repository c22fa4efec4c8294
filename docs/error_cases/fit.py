"""What is wrong with a model, or with what `fit` got."""

from .case import Case

_SETUP = """\
layers = tf.keras.layers
x, y = np.ones((8, 2), "f4"), np.ones((8, 1), "f4")
model = tf.keras.Sequential([layers.Dense(1, input_shape=(2,), name="out")])
model.compile("sgd", "mse")
"""

CASES = [
    Case(
        "input",
        "The number of features in the data differs from that of the first layer.",
        "Compare with `input_shape`. `x[:, None]` adds a missing last axis.",
        _SETUP
        + """\
model.fit(np.ones((8, 3), 'f4'), y, verbose=0)  # here
""",
    ),
    Case(
        "numbers of examples",
        "x and y have different numbers of examples.",
        "Check how you load and slice them.",
        _SETUP
        + """\
model.fit(x, y[:7], verbose=0)  # here
""",
    ),
    Case(
        "labels that do not fit",
        "The shape of the labels differs from that of the output.",
        "Change the last layer or the labels.",
        _SETUP
        + """\
model = tf.keras.Sequential([layers.Dense(2, input_shape=(2,))])
model.compile('sgd', 'mse')
model.fit(x, np.ones((8, 3), 'f4'), verbose=0)  # here
""",
    ),
    Case(
        "labels out of range",
        "A class number is as large as the number of outputs, or larger.",
        "Count classes from 0, or make the last layer wider.",
        _SETUP
        + """\
model = tf.keras.Sequential([layers.Dense(3, input_shape=(2,), activation='softmax')])
model.compile('sgd', 'sparse_categorical_crossentropy')
model.fit(x, np.full(8, 3), verbose=0)  # here
""",
    ),
    Case(
        "one-hot labels",
        "The labels are one-hot, but the loss expects class numbers.",
        "Use `categorical_crossentropy`.",
        _SETUP
        + """\
model = tf.keras.Sequential([layers.Dense(3, input_shape=(2,), activation='softmax')])
model.compile('sgd', 'sparse_categorical_crossentropy')
model.fit(x, np.eye(3, dtype='f4')[np.zeros(8, int)], verbose=0)  # here
""",
    ),
    Case(
        "NaN in the data",
        "An example contains NaN.",
        "Remove or fill it. The message gives its row.",
        _SETUP
        + """\
x[5] = np.nan
model.fit(x, y, verbose=0)  # here
""",
    ),
    Case(
        "texts as data",
        "The data are not numbers.",
        "Convert strings first, for example with `np.unique(..., return_inverse=True)`.",
        _SETUP
        + """\
model.fit(np.array([['a', 'b']] * 8), y, verbose=0)  # here
""",
    ),
    Case(
        "not compiled",
        "You called `fit` before `compile`.",
        "Call `model.compile(optimizer, loss)`.",
        _SETUP
        + """\
tf.keras.Sequential([layers.Dense(1)], name='net').fit(x, y, verbose=0)  # here
""",
    ),
    Case(
        "small batch",
        "`batch_size` counts the examples of all replicas. Each replica needs at least one.",
        "Make it larger, or use fewer replicas.",
        _SETUP
        + """\
model.fit(x, y, batch_size=1, verbose=0)  # here
""",
    ),
    Case(
        "other examples",
        "Replicas loaded different data. `fit` expects the whole data on each replica and distributes it.",
        "Pass the same arrays on all replicas, or an iterable with the batches of each replica.",
        _SETUP
        + """\
model.fit(x + rank, y, verbose=0)  # here
""",
    ),
    Case(
        "generator for several epochs",
        "A generator can be read only once.",
        "Pass `steps_per_epoch`, or `tf.keras.data.Dataset.from_generator(function)`.",
        _SETUP
        + """\
model.fit(((x, y) for _ in range(3)), epochs=2, verbose=0)  # here
""",
    ),
    Case(
        "unknown loss",
        "There is no loss with this name.",
        "Correct the name, or register your own loss with `custom_object_scope`.",
        _SETUP
        + """\
model.compile('sgd', 'mean_squard_error')  # here
""",
    ),
    Case(
        "unknown optimizer",
        "There is no optimizer with this name.",
        "Use one of the names in the message, or pass an optimizer object.",
        _SETUP
        + """\
model.compile('adan', 'mse')  # here
""",
    ),
    Case(
        "unknown metric",
        "There is no metric with this name.",
        "Correct the name, or register your own metric with `custom_object_scope`.",
        _SETUP
        + """\
model.compile('sgd', 'mse', metrics=['acuracy'])  # here
""",
    ),
    Case(
        "unknown activation",
        "There is no activation with this name.",
        "Correct the name, or pass a function.",
        _SETUP
        + """\
layers.Dense(1, activation='rellu')  # here
""",
    ),
    Case(
        "a callback's exception",
        "Your callback raised an exception on one replica. The others end too.",
        "See the replica and the line in the traceback.",
        _SETUP
        + """\
class Report(tf.keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print(logs['accuracy'] if rank == 1 else '')  # here
model.fit(x, y, verbose=0, callbacks=[Report()])  # here
""",
    ),
    Case(
        "a constraint's exception",
        "Your constraint raised an exception on the replica that updates the variable.",
        "See the line in the traceback.",
        _SETUP
        + """\
def constraint(w):
    return np.asarray(w).reshape(5)  # here
model = tf.keras.Sequential([layers.Dense(1, input_shape=(2,), kernel_constraint=constraint)])
model.compile('sgd', 'mse')
model.fit(x, y, verbose=0)  # here
""",
    ),
]
