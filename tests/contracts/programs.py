"""What the contract tests run on replicas, and on one replica to compare with."""

import hashlib

import numpy as np
import pytest

import distopt
from distopt import optimizers
from distopt.distribute import VirtualStrategy, get_replica_context

OPTIMIZERS = [
    *("SGD", "RMSprop", "Adam", "Adamax", "Nadam", "Adagrad", "Adadelta", "Ftrl"),
    *("AdamW", "Lion", "RAdam", "AdaBelief", "LAMB", "LARS"),
    *("Adafactor", "Muon"),
]
#: Those that are quick: between them they have all kinds of rules, slots and ways to take sparse gradients.
QUICK = ("SGD", "RMSprop", "Adam", "Ftrl", "LAMB", "Muon", "Momentum")
#: Those that go by another one; with SGD, whose rules are compiled for others as well.
WRAPPERS = ["DiLoCo", "LocalSGD", "LossScaleOptimizer", "ScheduleFree", "ScheduleFreeAdamW"]


def each(names):
    """Parameters of a test: the names, those that are not quick as slow."""
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in names]


def with_clips(names, clips=("clipvalue", "clipnorm", "global_clipnorm")):
    """Parametrizes ``name`` and ``clips``: quick are no clip with all, and each clip with one.

    What clips knows nothing of rules, but each pair of them is compiled for itself.
    """
    quick = [("SGD", "clipvalue"), ("Adam", "clipnorm"), ("RMSprop", "global_clipnorm")]
    pairs = [pytest.param(*name.values, {}, id=name.values[0], marks=name.marks) for name in each(names)]
    for name in names:
        for clip in clips:
            marks = [] if (name, clip) in quick else [pytest.mark.slow]
            pairs.append(pytest.param(name, {clip: 1.0}, id=f"{name}-{clip}", marks=marks))
    return pytest.mark.parametrize(("name", "clips"), pairs)


def rank():
    return get_replica_context().replica_id_in_sync_group


def size():
    return get_replica_context().num_replicas_in_sync


def alone(program):
    """What ``program`` gives as the one replica of a job, wherever this is called."""
    return VirtualStrategy(1).run(program)


def share(rows):
    """This replica's rows of a global batch; shares may differ in length."""
    return rows[len(rows) * rank() // size() : len(rows) * (rank() + 1) // size()]


def state(optimizer, variables):
    return [v.numpy() for v in variables], optimizer.get_weights()


def fingerprint(optimizer, variables):
    """A hash of every bit of the variables and of what the optimizer keeps."""
    data = b"".join(np.asarray(v).tobytes() for v in [*variables, *optimizer.weights])
    return hashlib.sha256(data).hexdigest()


def close(got, want, rtol):
    """Whether all arrays of two nested lists agree."""
    if isinstance(want, (list, tuple)):
        return len(got) == len(want) and all(close(g, w, rtol) for g, w in zip(got, want))
    got, want = np.asarray(got), np.asarray(want)
    scale = float(np.max(np.abs(want), initial=0.0))
    return got.shape == want.shape and got.dtype == want.dtype and np.allclose(got, want, rtol, rtol * scale)


def equal(results):
    """Whether all replicas have the same bits."""
    return all(same_bits(r, results[0]) for r in results)


def same_bits(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_bits, a, b))
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def variables(dtype="float32", shapes=((7, 5), (3,), (), (0, 2), (2, 3, 2))):
    """Variables with replica-dependent values: replica 0's are those that count."""
    generator = np.random.default_rng(rank())
    return [
        distopt.Variable(generator.normal(size=shape).astype(dtype), name=f"v{i}")
        for i, shape in enumerate(shapes)
    ]


def initial(dtype="float32", **kwargs):
    """The values that :func:`variables` have on replica 0."""
    return [v.numpy() for v in alone(lambda: variables(dtype, **kwargs))]


def part(step, replica, shapes, dtype="float32"):
    """The gradients of one replica in one step; small multiples of 1/8, so sums are exact."""
    generator = np.random.default_rng([step, replica])
    return [(generator.integers(-16, 17, size=shape) / 8).astype(dtype) for shape in shapes]


def make(name, **kwargs):
    return getattr(optimizers, name)(**kwargs)


def wrapped(name):
    if name == "ScheduleFreeAdamW":
        return make(name, learning_rate=0.1)
    if name in ("DiLoCo", "LocalSGD"):
        return getattr(optimizers, name)(make("SGD", learning_rate=0.1, gradient_aggregator="mean"), every=2)
    return getattr(optimizers, name)(make("SGD", learning_rate=0.1))


class Momentum(optimizers.Optimizer):
    """An optimizer as users write them, with a slot, in NumPy."""

    def __init__(self, learning_rate=0.1, name="Momentum", **kwargs):
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", learning_rate)

    def _create_slots(self, var_list):
        for v in var_list:
            self.add_slot(v, "sum")

    def _resource_apply_dense(self, grad, var, apply_state=None):
        total = self.get_slot(var, "sum")
        total.assign(total * var.dtype.type(0.5) + grad)
        var.assign_sub(self._decayed_lr(var.dtype) * total)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        value = var.numpy()
        value[np.asarray(indices)] -= np.asarray(self._decayed_lr(var.dtype)) * np.asarray(grad)
        var.assign(value)

    def get_config(self):
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
        }
