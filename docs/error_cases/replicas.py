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
        "A gradient of one replica is wrong. Nothing was applied on any replica.",
        "The message comes from that replica: see [steps](#steps).",
        _SETUP
        + """\
optimizer.apply_gradients([([1.0, 2.0, 3.0] if rank else [1.0, 2.0], w)])  # here
""",
    ),
    Case(
        "another variable",
        "Replicas update different variables.",
        "Pass all variables on all replicas, with zeros as the gradient of unused ones.",
        _SETUP
        + """\
pairs = [([1.0, 1.0], w), (1.0, b)]
optimizer.apply_gradients(pairs[:1] if rank else pairs)  # here
""",
    ),
    Case(
        "another order",
        "Replicas make the same calls in different orders.",
        "Move calls out of branches. Do not loop over a set, whose order may differ.",
        _SETUP
        + """\
calls = [step, lambda: context.all_reduce('sum', 1.0)]  # here
for call in reversed(calls) if rank else calls:
    call()  # here
""",
    ),
    Case(
        "call under if rank == 0",
        "Only one replica makes a collective call, for example to evaluate, save or reduce.",
        "Make the call on all replicas, and print on one.",
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
        "Pad them, or use `all_gather`, which accepts any number of rows.",
        _SETUP
        + """\
context.all_reduce('sum', np.ones(2 + rank))  # here
""",
    ),
    Case(
        "a step less",
        "A replica has fewer batches, so it ends before the others, or makes the next call too early.",
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
        (
            "Compute the rate from values that are the same on all replicas, not from a clock or a "
            "random number."
        ),
        _SETUP
        + """\
optimizer.learning_rate = 0.1 * (1 + rank)
step()  # here
""",
    ),
    Case(
        "another optimizer",
        "Replicas use different optimizers.",
        "Choose it with an argument of the program, not by machine or rank.",
        _SETUP
        + """\
optimizer = tf.optimizers.Adam(0.1) if rank else optimizer
step()  # here
""",
    ),
    Case(
        "another assigned value",
        "Replicas assigned different values to a variable.",
        "Broadcast one value: `w.assign(context.broadcast(value))`.",
        _SETUP
        + """\
step()
w.assign([float(rank), 0.0])
step()  # here
""",
    ),
    Case(
        "a replica's own exception",
        "One replica raised an exception, here in your loss. The others end too.",
        "See the replica and the line in the traceback.",
        _SETUP
        + """\
def loss():
    return w * {0: 1.0}[rank]  # here
optimizer.minimize(loss, [w])  # here
""",
    ),
    Case(
        "a replica that leaves",
        "One replica called `sys.exit`.",
        (
            "Decide together and exit on all replicas: see [sharp "
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
        "The call belongs to one replica, but is inside `strategy.scope()` or `merge_call`.",
        "Make it in the function that you pass to `strategy.run`, or outside the scope.",
        _SETUP
        + """\
with tf.distribute.get_strategy().scope():
    step()  # here
""",
    ),
    Case(
        "two threads",
        "Two threads of one replica make collective calls at the same time.",
        "Make all of them in one thread. Pass values from the other thread through a queue.",
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
        "The name of the reduction is unknown.",
        "Use `sum`, `mean`, `min` or `max`.",
        _SETUP
        + """\
context.all_reduce('median', 1.0)  # here
""",
    ),
    Case(
        "waiting",
        (
            "The others have waited for a replica for `DISTOPT_STALL_SECONDS`. The next lines show "
            "where each replica is."
        ),
        (
            "If the replica is only slow, wait. `py-spy dump` on its process shows what it does. See "
            "[debugging](debugging.md#what-the-errors-say)."
        ),
        shown="distopt: waiting for ... s, ...",
    ),
    Case(
        "a stall",
        (
            "The others have waited for a replica for `DISTOPT_ABORT_SECONDS`. In Python the error is "
            "`ReplicaStalled`."
        ),
        "As above. If the replica is only slow, raise the limit.",
        shown="distopt: ending the job (abort limit ... s)",
    ),
]
