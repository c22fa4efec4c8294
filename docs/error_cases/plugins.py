"""What is wrong with aggregators, transformers and optimizers of one's own."""

from .case import Case

_SETUP = """\
w = tf.Variable([1.0, 2.0], name="w")
def step(**stages):
    tf.optimizers.SGD(0.1, **stages).apply_gradients([([1.0, 1.0], w)])  # here
"""

CASES = [
    Case(
        "unknown aggregator",
        "There is no aggregator with this name.",
        "Use one of the names in the message. If it is your own, install its package.",
        """\
tf.optimizers.SGD(0.1, gradient_aggregator='men')  # here
""",
    ),
    Case(
        "an aggregator's class",
        "You passed the class instead of an instance.",
        "Create an instance: `gradient_aggregator=Mean()`.",
        """\
tf.optimizers.SGD(0.1, gradient_aggregator=tf.aggregators.Mean)  # here
""",
    ),
    Case(
        "an aggregator that drops variables",
        "The aggregator did not return all variables that were passed in.",
        "Return a pair for each variable. Use `gradient_transformers` to drop variables.",
        _SETUP
        + """\
def aggregator(pairs):
    return []
step(gradient_aggregator=aggregator)  # here
""",
    ),
    Case(
        "an aggregator that returns None",
        "The aggregator returned None.",
        "Add `return` with the pairs.",
        _SETUP
        + """\
def aggregator(pairs):
    pass
step(gradient_aggregator=aggregator)  # here
""",
    ),
    Case(
        "an aggregator that forgets the others",
        (
            "The aggregator returned different gradients on different replicas. distopt checks this in "
            "the first step and in each audit."
        ),
        'Reduce: `context.all_reduce("sum", gradient)`.',
        _SETUP
        + """\
def aggregator(pairs):
    return [(np.asarray(g) * (1 + rank), v) for g, v in pairs]
step(gradient_aggregator=aggregator)  # here
""",
    ),
    Case(
        "an aggregator's exception",
        "Your aggregator raised an exception on one replica. The others end too.",
        "See the replica and the line in the traceback.",
        _SETUP
        + """\
def aggregator(pairs):
    return [(g / {0: 2}[rank], v) for g, v in pairs]  # here
step(gradient_aggregator=aggregator)  # here
""",
    ),
    Case(
        "a transformer's exception",
        "Your transformer raised an exception on one replica. The others end too.",
        "See the replica and the line in the traceback.",
        _SETUP
        + """\
def transformer(pairs):
    return [(g / {0: 2}[rank], v) for g, v in pairs]  # here
step(gradient_transformers=[transformer])  # here
""",
    ),
    Case(
        "a transformer that replicas do not do alike",
        (
            "The transformer returned different gradients on different replicas, because of random "
            "numbers or the rank."
        ),
        "Use a random generator with the same seed on all replicas.",
        _SETUP
        + """\
def transformer(pairs):
    return [(g * (1 + rank), v) for g, v in pairs]
step(gradient_transformers=[transformer])  # here
""",
    ),
    Case(
        "a transformer that is none",
        "A transformer must be a function from pairs to pairs.",
        "Pass a list of functions.",
        _SETUP
        + """\
step(gradient_transformers=['clip'])  # here
""",
    ),
    Case(
        "an optimizer without a rule",
        "Your class derived from `Optimizer` does not define an update.",
        "Override `_resource_apply_dense`.",
        _SETUP
        + """\
class Own(tf.optimizers.Optimizer):
    def get_config(self):
        return {}
Own(name='own').apply_gradients([([1.0, 1.0], w)])  # here
""",
    ),
]
