"""What replicas do differently."""

from .case import Case

_SETUP = """\
w, b = tf.Variable([1.0, 2.0], name="w"), tf.Variable(0.0, name="b")
optimizer = tf.optimizers.SGD(0.1)
def step(*pairs):
    optimizer.apply_gradients(pairs or [([1.0, 1.0], w), (1.0, b)])
"""

CASES = [
    Case(
        "gradient of one replica",
        "A gradient of one replica is wrong; nothing was applied on any of them.",
        "The message is that of the replica that is wrong; see [steps](#steps).",
        _SETUP
        + """\
optimizer.apply_gradients([([1.0, 2.0, 3.0] if rank else [1.0, 2.0], w)])  # here
""",
    ),
    Case(
        "another variable",
        "Replicas update different variables.",
        "Give all variables on all replicas; where one is not used, a gradient of zeros.",
        _SETUP
        + """\
pairs = [([1.0, 1.0], w), (1.0, b)]
optimizer.apply_gradients(pairs[:1] if rank else pairs)  # here
""",
    ),
    Case(
        "another order",
        "Replicas make the same calls in another order.",
        "Take calls out of branches, and loops out of sets.",
        _SETUP
        + """\
calls = [step, lambda: context.all_reduce('sum', 1.0)]  # here
for call in reversed(calls) if rank else calls:
    call()  # here
""",
    ),
    Case(
        "call under if rank == 0",
        "Only one replica evaluates, saves or reduces.",
        "Let all make the call; let one print.",
        _SETUP
        + """\
if rank == 0:
    context.all_reduce('mean', 1.0)  # here
step()
""",
    ),
    Case(
        "another shape",
        "Replicas reduce arrays of different shapes.",
        "Pad them, or gather them by `all_gather`, which takes any number of rows.",
        _SETUP
        + """\
context.all_reduce('sum', np.ones(2 + rank))  # here
""",
    ),
    Case(
        "a step less",
        "A replica has fewer batches, so it ends, or goes on, before the others.",
        'Agree on the number of steps: `context.all_reduce("min", steps)`.',
        _SETUP
        + """\
for _ in range(3 - rank):
    step()  # here
""",
    ),
    Case(
        "another learning rate",
        "Hyperparameters differ between replicas.",
        "Compute the rate from what all replicas have in common; no clock, no random number.",
        _SETUP
        + """\
optimizer.learning_rate = 0.1 * (1 + rank)
step()  # here
""",
    ),
    Case(
        "another optimizer",
        "Replicas use different optimizers.",
        "Choose it by an argument of the program, not by the machine.",
        _SETUP
        + """\
optimizer = tf.optimizers.Adam(0.1) if rank else optimizer
step()  # here
""",
    ),
    Case(
        "another assigned value",
        "Replicas have assigned different values to a variable.",
        "Hand out one value: `w.assign(context.broadcast(value))`.",
        _SETUP
        + """\
step()
w.assign([float(rank), 0.0])
step()  # here
""",
    ),
    Case(
        "a replica's own exception",
        "One replica has raised, here in the program's own loss; the others end with it.",
        "Look at the replica named, and the line.",
        _SETUP
        + """\
def loss():
    return w * {0: 1.0}[rank]  # here
optimizer.minimize(loss, [w])  # here
""",
    ),
    Case(
        "a replica that leaves",
        "One replica has called `sys.exit`.",
        (
            "Let all leave, after a common decision; see [sharp "
            "bits](sharp-bits.md#decisions-by-clock-disk-or-chance)."
        ),
        _SETUP
        + """\
if rank == 1:
    raise SystemExit("no data for this replica")  # here
step()
""",
    ),
    Case(
        "cross-replica context",
        "The call speaks for one replica, but stands in `strategy.scope()` or `merge_call`.",
        "Make it in the function that `strategy.run` runs, or outside of the scope.",
        _SETUP
        + """\
with tf.distribute.get_strategy().scope():
    step()  # here
""",
    ),
    Case(
        "two threads",
        "Two threads of a replica are in collective calls at once.",
        "Let one thread make them; give it the values of the other by a queue.",
        _SETUP
        + """\
import contextvars, threading
told = []
def other():
    try:
        context.all_reduce('sum', 1.0)
    except RuntimeError as error:
        told.append(error)
def within(pairs):
    run = contextvars.copy_context().run
    thread = threading.Thread(name='helper', target=run, args=(other,))
    thread.start()
    thread.join()
    return pairs
optimizer = tf.optimizers.SGD(0.1, gradient_transformers=[within])
step()
raise told[0]  # here
""",
    ),
    Case(
        "unknown reduction",
        "There is no such reduction.",
        "`sum`, `mean`, `min` or `max`.",
        _SETUP
        + """\
context.all_reduce('median', 1.0)  # here
""",
    ),
    Case(
        "waiting",
        (
            "A replica has not come to a call for `DISTOPT_STALL_SECONDS`; the others wait. The "
            "lines below say where each is."
        ),
        (
            "Wait, if it is only slow; `py-spy dump` on its process shows where it is. See "
            "[debugging](debugging.md#what-the-errors-say)."
        ),
        shown="distopt: waiting for ... s, ...",
    ),
    Case(
        "a stall",
        (
            "A replica has not come to a call for `DISTOPT_ABORT_SECONDS`. In a program that "
            "catches it: `ReplicaStalled`."
        ),
        "Likewise; raise the limit if the replica is only slow.",
        shown="distopt: ending the job (abort limit ... s)",
    ),
]
