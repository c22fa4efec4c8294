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
        "The data has another number of features than the model's first layer.",
        "Compare with `input_shape`; a missing last axis is added by `x[:, None]`.",
        _SETUP
        + """\
model.fit(np.ones((8, 3), 'f4'), y, verbose=0)  # here
""",
    ),
    Case(
        "numbers of examples",
        "x and y have different numbers of examples.",
        "Cut or load them alike.",
        _SETUP
        + """\
model.fit(x, y[:7], verbose=0)  # here
""",
    ),
    Case(
        "labels that do not fit",
        "The labels have another shape than the model's output.",
        "Compare the last layer with the labels.",
        _SETUP
        + """\
model = tf.keras.Sequential([layers.Dense(2, input_shape=(2,))])
model.compile('sgd', 'mse')
model.fit(x, np.ones((8, 3), 'f4'), verbose=0)  # here
""",
    ),
    Case(
        "labels out of range",
        "A class number is not below the number of the model's outputs.",
        "Count classes from 0; make the last layer wider.",
        _SETUP
        + """\
model = tf.keras.Sequential([layers.Dense(3, input_shape=(2,), activation='softmax')])
model.compile('sgd', 'sparse_categorical_crossentropy')
model.fit(x, np.full(8, 3), verbose=0)  # here
""",
    ),
    Case(
        "one-hot labels",
        "One-hot labels with the loss for class numbers.",
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
        "An example has NaN.",
        "Remove or fill it; its row is in the message.",
        _SETUP
        + """\
x[5] = np.nan
model.fit(x, y, verbose=0)  # here
""",
    ),
    Case(
        "texts as data",
        "The data are no numbers.",
        "Convert strings to numbers first, for example by `np.unique(..., return_inverse=True)`.",
        _SETUP
        + """\
model.fit(np.array([['a', 'b']] * 8), y, verbose=0)  # here
""",
    ),
    Case(
        "not compiled",
        "`fit` was called before `compile`.",
        "Call `model.compile(optimizer, loss)`.",
        _SETUP
        + """\
tf.keras.Sequential([layers.Dense(1)], name='net').fit(x, y, verbose=0)  # here
""",
    ),
    Case(
        "small batch",
        "`batch_size` is that of all replicas together, and must give each at least one example.",
        "Make it larger, or use fewer replicas.",
        _SETUP
        + """\
model.fit(x, y, batch_size=1, verbose=0)  # here
""",
    ),
    Case(
        "other examples",
        "Replicas loaded different data; `fit` takes the whole data on each, and shares it out.",
        "Give all replicas the same arrays, or own batches by an iterable.",
        _SETUP
        + """\
model.fit(x + rank, y, verbose=0)  # here
""",
    ),
    Case(
        "generator for several epochs",
        "A generator can be read once.",
        "Give `steps_per_epoch`, or `tf.keras.data.Dataset.from_generator(function)`.",
        _SETUP
        + """\
model.fit(((x, y) for _ in range(3)), epochs=2, verbose=0)  # here
""",
    ),
    Case(
        "unknown loss",
        "There is no loss of that name.",
        "Correct the name, or register a loss of your own by `custom_object_scope`.",
        _SETUP
        + """\
model.compile('sgd', 'mean_squard_error')  # here
""",
    ),
    Case(
        "unknown optimizer",
        "There is no optimizer of that name.",
        "Choose one of the names in the message, or make the optimizer.",
        _SETUP
        + """\
model.compile('adan', 'mse')  # here
""",
    ),
    Case(
        "unknown metric",
        "There is no metric of that name.",
        "Likewise.",
        _SETUP
        + """\
model.compile('sgd', 'mse', metrics=['acuracy'])  # here
""",
    ),
    Case(
        "unknown activation",
        "There is no activation of that name.",
        "Likewise.",
        _SETUP
        + """\
layers.Dense(1, activation='rellu')  # here
""",
    ),
    Case(
        "a callback's exception",
        "A callback of the program has raised on one replica; the others end with it.",
        "Look at the replica named, and the line.",
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
        "A constraint of the program has raised, on the replica that updates the variable.",
        "Look at the line.",
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
