"""Programs whose gradients travel while the backward pass goes on, and the same ones without that.

Run by itself as a job over several nodes: each replica writes into the folder that it is given, for each
program its bits, with and without, and how many gradients were on their way before their step.
"""

import hashlib
import json
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import distopt
import distopt.torch as dt
from distopt.distribute import require_replica_context
from distopt.engine.step import StepEngine

STEPS = 8
#: Blocks have at least this many elements, so that there are several.
WIDTH = 560


def network():
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4)
    )


class Training:
    """A model, its optimizer, and its share of the data."""

    def __init__(self, make=network, optimizer=dt.Adam, **options):
        torch.manual_seed(0)
        self.model = make()
        self.optimizer = optimizer(self.model.parameters(), lr=1e-3, **options)
        self.data = torch.Generator().manual_seed(dt.rank() + 1)

    def batch(self, size=2):
        x = torch.randn(size, WIDTH, generator=self.data)
        return x, torch.randint(0, 4, (size,), generator=self.data)

    def loss(self):
        x, y = self.batch()
        return cross_entropy(self.model(x), y)

    def step(self, **options):
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step(**options)


def plain():
    t = Training()
    for _ in range(STEPS):
        t.step()
    return t


def compiled_module():
    """Its backward pass is one function, so gradients come when all of it is done."""
    t = Training(lambda: torch.compile(network(), backend="aot_eager"))
    for _ in range(STEPS):
        t.step()
    return t


def groups():
    t = Training()
    biases = [p for p in t.model.parameters() if p.ndim == 1]
    weights = [p for p in t.model.parameters() if p.ndim > 1]
    t.optimizer = dt.AdamW([{"params": biases, "weight_decay": 0.0}, {"params": weights}], lr=1e-3)
    for _ in range(STEPS):
        t.step()
    return t


def clip_option():
    t = Training(clip_grad_norm=0.5)
    for _ in range(STEPS):
        t.step()
    return t


def clip_before_step():
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        t.loss().backward()
        if k % 3 == 2:
            nn.utils.clip_grad_norm_(t.model.parameters(), 0.1)
        t.optimizer.step()
    return t


def accumulation():
    t = Training()
    for _ in range(STEPS):
        t.optimizer.zero_grad()
        with t.optimizer.no_sync():
            t.loss().backward()
            t.loss().backward()
        t.loss().backward()
        t.optimizer.step()
    return t


def accumulation_of_varying_length():
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        for _ in range(1 + k % 3):
            t.loss().backward()
        t.optimizer.step()
    return t


def edits_unseen_by_torch():
    """``.data`` and NumPy leave PyTorch's version counters as they are."""
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        t.loss().backward()
        if k == 3 and dt.rank() == 1:
            t.model[0].weight.grad.data.mul_(-1)
        if k == 6 and dt.rank() == 0:
            t.model[4].bias.grad.numpy()[0] += 1
        t.optimizer.step()
    return t


def other_tensors():
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        t.loss().backward()
        if k == 4 and dt.rank() == 0:
            t.model[2].weight.grad = torch.ones_like(t.model[2].weight)
        t.optimizer.step()
    return t


def zeroed_in_between():
    t = Training()
    for k in range(STEPS):
        if k == 4 and dt.rank() == 1:
            t.loss().backward()
            t.optimizer.zero_grad(set_to_none=False)
        t.step()
    return t


def exception_in_the_backward_pass():
    t = Training()

    def refuse(_):
        raise LookupError("in the middle")

    for k in range(STEPS):
        if k == 4:
            x, y = t.batch()
            hidden = t.model[1](t.model[0](x))
            hidden.register_hook(refuse)
            with suppress(LookupError):
                cross_entropy(t.model[4](t.model[3](t.model[2](hidden))), y).backward()
        t.step()
    return t


def unused_parameter():
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        x, y = t.batch()
        hidden = t.model[1](t.model[0](x))
        if k not in (3, 5):
            hidden = t.model[3](t.model[2](hidden))
        cross_entropy(t.model[4](hidden), y).backward()
        t.optimizer.step()
    return t


def two_networks_against_each_other():
    """Each one's backward pass goes through the other one's parameters too."""
    real, fake = (
        Training(),
        Training(make=lambda: nn.Sequential(nn.Linear(8, WIDTH), nn.Linear(WIDTH, WIDTH))),
    )
    for _ in range(STEPS):
        noise = torch.randn(2, 8, generator=fake.data)
        real.optimizer.zero_grad()
        x, y = real.batch()
        (cross_entropy(real.model(x), y) + real.model(fake.model(noise).detach()).square().mean()).backward()
        real.optimizer.step()
        fake.optimizer.zero_grad()
        mse_loss(real.model(fake.model(noise)), torch.ones(2, 4)).backward()
        fake.optimizer.step()
    fake.model = nn.ModuleList([real.model, fake.model])
    return fake


def tied_weights():
    def make():
        model = network()
        model[2].weight = model[0].weight
        return model

    t = Training(make)
    for _ in range(STEPS):
        t.step()
    return t


def sync_batch_norm():
    """Replicas meet in the middle of the backward pass."""
    t = Training(lambda: dt.convert_sync_batchnorm(nn.Sequential(*network(), nn.BatchNorm1d(4))))
    for _ in range(STEPS):
        t.step()
    return t


def uneven_examples():
    t = Training()
    for k in range(STEPS):
        t.step(examples=2 if k % 4 else 2 + dt.rank())
    return t


def not_finite(policy):
    def run():
        t = Training(on_nonfinite=policy)
        for k in range(STEPS):
            t.optimizer.zero_grad()
            t.loss().backward()
            if k == 4 and dt.rank() == 1:
                t.model[2].bias.grad[3] = float("nan")
            try:
                t.optimizer.step()
            except FloatingPointError:
                assert policy == "raise"
        return t

    return run


def aggregated_before_the_step():
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        t.loss().backward()
        if k in (3, 4):
            t.optimizer.aggregate()
        t.optimizer.step()
    return t


def another_mismatch():
    """One replica leaves a parameter out, in one step: an error on all, and then it goes on."""
    t = Training()
    for k in range(STEPS):
        t.optimizer.zero_grad()
        t.loss().backward()
        if k == 4 and dt.rank() == 0:
            t.model[0].weight.grad = None
        try:
            t.optimizer.step()
        except distopt.errors.ReplicaMismatch:
            assert k == 4
    return t


#: Each with how many of its gradients travel early at least: of 6 a step, from the third on.
PROGRAMS = {
    "plain": (plain, 6 * (STEPS - 2)),
    "compiled module": (compiled_module, 6 * (STEPS - 2)),
    "groups": (groups, 6 * (STEPS - 2)),
    "clip option": (clip_option, 6 * (STEPS - 2)),
    "clip before step": (clip_before_step, 6),
    "accumulation": (accumulation, 6 * (STEPS - 3)),
    "accumulation of varying length": (accumulation_of_varying_length, 0),
    "edits unseen by torch": (edits_unseen_by_torch, 6 * (STEPS - 4)),
    "other tensors": (other_tensors, 6 * (STEPS - 3)),
    "zeroed in between": (zeroed_in_between, 6 * (STEPS - 4)),
    "exception in the backward pass": (exception_in_the_backward_pass, 6 * (STEPS - 4)),
    "unused parameter": (unused_parameter, 0),
    "two networks against each other": (two_networks_against_each_other, 4 * (STEPS - 3)),
    "tied weights": (tied_weights, 5 * (STEPS - 2)),
    "sync batch norm": (sync_batch_norm, 8 * (STEPS - 2)),
    "uneven examples": (uneven_examples, 6 * (STEPS - 4)),
    "skip": (not_finite("skip"), 6),
    "zero": (not_finite("zero"), 6),
    "raise": (not_finite("raise"), 6),
    "aggregated": (aggregated_before_the_step, 6),
    "mismatch": (another_mismatch, 6),
}


def measured(program, mode):
    """The program's bits, and how many gradients travelled early."""
    os.environ["DISTOPT_OVERLAP"] = mode
    t = program()
    overlap = StepEngine.of(require_replica_context("this test")).overlap(t.optimizer._pipeline.updates)
    bits = hashlib.sha256()
    for tensor in t.model.state_dict().values():
        bits.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return bits.hexdigest(), overlap.variables


def main():
    """The named programs both ways."""
    warnings.simplefilter("ignore")
    names = sys.argv[2:]
    found = {name: [measured(PROGRAMS[name][0], mode) for mode in ("on", "off")] for name in names}
    Path(sys.argv[1], f"{dt.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
