"""A program whose bits must not depend on how its replicas are laid out; prints its hashes."""

import hashlib
import sys

import numpy as np

import distopt
from distopt import IndexedSlices, Variable, distribute, optimizers

NAMES = [
    *("SGD", "RMSprop", "Adam", "Adamax", "Nadam", "Adagrad", "Adadelta", "Ftrl"),
    *("AdamW", "Lion", "RAdam", "AdaBelief", "LAMB", "LARS"),
    *("Adafactor", "Muon"),
]
SHAPES = [(70, 60), (3,), (), (50, 7), (0, 2)]


class Plain(optimizers.Optimizer):
    """An optimizer in NumPy, as users write them."""

    def __init__(self, name="Plain", **kwargs):
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", 0.1)

    def _create_slots(self, var_list):
        for v in var_list:
            self.add_slot(v, "sum")

    def _resource_apply_dense(self, grad, var):
        total = self.get_slot(var, "sum")
        total.assign_add(grad)
        var.assign_sub(self._decayed_lr(var.dtype) * total)

    def _resource_apply_sparse(self, grad, var, indices):
        value = var.numpy()
        np.subtract.at(value, np.asarray(indices), np.float32(0.1) * np.asarray(grad))
        var.assign(value)

    def get_config(self):
        return super().get_config()


def halves(pairs):
    return [(g * 0.5, v) for g, v in pairs]


def own_mean(pairs):
    pairs = list(pairs)
    reduced = distribute.get_replica_context().all_reduce("mean", [g for g, _ in pairs])
    return [(g, v) for g, (_, v) in zip(reduced, pairs)]


def decaying():
    optimizer = optimizers.SGD(
        0.1, weight_decay=0.5, learning_rate_multiplier=lambda name: 1 + (name == "v0")
    )
    optimizer.exclude_from_weight_decay(var_names=["v1"])
    return optimizer


MAKERS = {
    **{name: getattr(optimizers, name) for name in NAMES},
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "clipvalue, clipnorm": lambda: optimizers.Adam(clipvalue=0.5, clipnorm=2.0),
    "global_clipnorm": lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=1.0),
    "trust ratios, clipped": lambda: optimizers.LAMB(0.1, global_clipnorm=1.0),
    "weight decay": decaying,
    "mean": lambda: optimizers.Adam(gradient_aggregator="mean"),
    "adasum": lambda: optimizers.Adam(gradient_aggregator="adasum"),
    "weighted": lambda: optimizers.Adam(
        gradient_aggregator=distopt.aggregators.WeightedMean(lambda: rank() + 1)
    ),
    "own": lambda: optimizers.Adam(gradient_aggregator=own_mean, gradient_transformers=[halves]),
    "NumPy": Plain,
}


#: Those that between them have all kinds of rules and of ways through a step.
QUICK = [
    *("SGD", "Adam", "LAMB", "Muon", "clipvalue, clipnorm", "global_clipnorm", "weight decay", "mean"),
    *("adasum", "weighted", "own", "NumPy"),
]


def rank():
    return distribute.get_replica_context().replica_id_in_sync_group


def gradients(generator, variables, step):
    """Normal numbers, so that their sums show their order; sparse ones of unequal length in odd steps."""
    result = [generator.normal(size=v.shape).astype("f4") for v in variables]
    if step % 2:
        count = 5 + rank()
        rows = generator.normal(size=(count, 7)).astype("f4")
        result[3] = IndexedSlices(rows, generator.integers(0, 50, count), (50, 7))
    return result


def train(make):
    generator = np.random.default_rng(rank())  # replica 0's initial values are those that count
    constraint = lambda w: np.maximum(w, -1)  # noqa: E731
    variables = [
        Variable(
            generator.normal(size=shape).astype("f4"), name=f"v{i}", constraint=None if i else constraint
        )
        for i, shape in enumerate(SHAPES)
    ]
    optimizer = make()
    for step in range(3):
        if step == 2:
            variables[1].assign(variables[1] * 2)
            optimizer.learning_rate = 0.05
        optimizer.apply_gradients(zip(gradients(generator, variables, step), variables))
    return hashlib.sha256(b"".join(w.numpy().tobytes() for w in [*variables, *optimizer.weights])).hexdigest()


def calls():
    """What the context's own calls give."""
    context, generator = distribute.get_replica_context(), np.random.default_rng(rank())
    values = generator.normal(size=(2, 4000)).astype("f4")
    slices = IndexedSlices(values[:1, :3], [rank()])
    results = [
        *context.all_reduce("sum", [values, values[0, :5].astype("f8")]),
        context.all_reduce("mean", values),
        context.all_gather(values[:, : rank() + 1], axis=1),
        context.broadcast(values, root=context.num_replicas_in_sync - 1),
        context.all_reduce("sum", slices).values,
    ]
    return hashlib.sha256(b"".join(np.asarray(r).tobytes() for r in results)).hexdigest()


def main(names=tuple(MAKERS)):
    hashes = {"calls": calls(), **{name: train(MAKERS[name]) for name in names}}
    context = distribute.get_replica_context()
    everyone = context.all_gather(
        np.array([[int(h[:12], 16) for h in hashes.values()]], np.int64), axis=0
    ).numpy()
    assert (everyone == everyone[0]).all(), "the replicas differ"
    return hashes


def show(hashes):
    for name, value in hashes.items():
        print(f"HASH {name}: {value}")


if __name__ == "__main__":
    found = main(*[QUICK] * ("--quick" in sys.argv))
    if rank() == 0:
        show(found)
