"""Programs of tapes whose gradients travel while they are computed, and the same ones without that.

Run by itself as a job over several nodes: each replica writes into the folder that it is given, for each
program its bits, with and without, and how many gradients were on their way before their step.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

import distopt as tf
from distopt.distribute import require_replica_context
from distopt.engine.step import StepEngine

STEPS = 8
#: Blocks have at least this many elements, so that there are several.
WIDTH = 720
REPLICA = tf.distribute.get_replica_context().replica_id_in_sync_group


class Training:
    """Two layers and their optimizer."""

    def __init__(self, **options):
        random = np.random.default_rng(0)
        self.variables = [
            tf.Variable(random.normal(size=shape).astype("float32") / 30, name=f"v{k}")
            for k, shape in enumerate([(WIDTH, WIDTH), (WIDTH,), (WIDTH, WIDTH), (WIDTH, 3)])
        ]
        self.optimizer = tf.optimizers.Adam(1e-3, **options)
        self.data = np.random.default_rng(REPLICA)

    def loss(self):
        first, bias, second, third = self.variables
        x = self.data.normal(size=(2, WIDTH)).astype("float32")
        return (np.tanh(np.tanh(x @ first + bias) @ second) @ third - 1.0) ** 2

    def gradients(self):
        with tf.GradientTape() as tape:
            loss = self.loss()
        return tape.gradient(loss, self.variables)

    def apply(self, gradients):
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))


def plain():
    t = Training()
    for _ in range(STEPS):
        t.apply(t.gradients())
    return t


def norms():
    t = Training(global_clipnorm=0.1)
    for _ in range(STEPS):
        t.apply(t.gradients())
    return t


def minimized():
    t = Training()
    for _ in range(STEPS):
        t.optimizer.minimize(t.loss, t.variables)
    return t


def scaled_by_the_program():
    t = Training()
    for _ in range(STEPS):
        t.apply([gradient * 0.5 for gradient in t.gradients()])
    return t


def another_gradient_on_one_replica():
    t = Training()
    for k in range(STEPS):
        gradients = t.gradients()
        if k == 4 and REPLICA == 1:
            gradients[2] = -gradients[2]
        t.apply(gradients)
    return t


def gradients_for_another_purpose():
    t = Training()
    for k in range(STEPS):
        if k == 3:
            t.gradients()
        t.apply(t.gradients())
    return t


def of_two_tapes():
    t = Training()
    for _ in range(STEPS):
        t.apply([a + b for a, b in zip(t.gradients(), t.gradients(), strict=True)])
    return t


def some_variables_only():
    t = Training()
    for k in range(STEPS):
        gradients = t.gradients()
        if k in (3, 4):
            gradients[1] = None
        t.apply(gradients)
    return t


#: Each with how many of its gradients travel early at least: of 4 a step, from the third on.
PROGRAMS = {
    "plain": (plain, 4 * (STEPS - 2)),
    "norms": (norms, 4 * (STEPS - 2)),
    "minimized": (minimized, 4 * (STEPS - 2)),
    "scaled by the program": (scaled_by_the_program, 0),
    "another gradient on one replica": (another_gradient_on_one_replica, 4 * (STEPS - 3)),
    "gradients for another purpose": (gradients_for_another_purpose, 4 * (STEPS - 3)),
    "of two tapes": (of_two_tapes, 0),
    "some variables only": (some_variables_only, 4),
}


def measured(program, mode):
    """The program's bits, and how many gradients travelled early."""
    os.environ["DISTOPT_OVERLAP"] = mode
    t = program()
    overlap = StepEngine.of(require_replica_context("this test")).overlap(t.optimizer)
    bits = hashlib.sha256(b"".join(v.numpy().tobytes() for v in t.variables))
    return bits.hexdigest(), overlap.variables


def main():
    """The named programs both ways."""
    names = sys.argv[2:]
    found = {name: [measured(PROGRAMS[name][0], mode) for mode in ("on", "off")] for name in names}
    Path(sys.argv[1], f"{REPLICA}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
