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
        "There is no aggregator of that name.",
        "The message has the known names; a package of your own must be installed.",
        """\
tf.optimizers.SGD(0.1, gradient_aggregator='men')  # here
""",
    ),
    Case(
        "an aggregator's class",
        "The class itself was given.",
        "Make one: `gradient_aggregator=Mean()`.",
        """\
tf.optimizers.SGD(0.1, gradient_aggregator=tf.aggregators.Mean)  # here
""",
    ),
    Case(
        "an aggregator that drops variables",
        "The aggregator did not return all variables that it got.",
        "Return a pair for each; leave variables out by `gradient_transformers`.",
        _SETUP
        + """\
def aggregator(pairs):
    return []
step(gradient_aggregator=aggregator)  # here
""",
    ),
    Case(
        "an aggregator that returns None",
        "The aggregator has no `return`.",
        "Return the pairs.",
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
            "The aggregator gave replicas different gradients. Compared at the first step, and "
            "with each audit."
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
        "An aggregator has raised on one replica; the others end with it.",
        "Look at the replica named, and the line.",
        _SETUP
        + """\
def aggregator(pairs):
    return [(g / {0: 2}[rank], v) for g, v in pairs]  # here
step(gradient_aggregator=aggregator)  # here
""",
    ),
    Case(
        "a transformer's exception",
        "A transformer has raised on one replica; the others end with it.",
        "Look at the replica named, and the line.",
        _SETUP
        + """\
def transformer(pairs):
    return [(g / {0: 2}[rank], v) for g, v in pairs]  # here
step(gradient_transformers=[transformer])  # here
""",
    ),
    Case(
        "a transformer that replicas do not do alike",
        "The transformer gave replicas different gradients, by chance or by the replica's number.",
        "Draw random numbers from a generator with a seed that all share.",
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
        "Give the function itself, in a list.",
        _SETUP
        + """\
step(gradient_transformers=['clip'])  # here
""",
    ),
    Case(
        "an optimizer without a rule",
        "A class derived from `Optimizer` has no update.",
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
