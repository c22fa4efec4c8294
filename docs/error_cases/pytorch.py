"""What goes wrong with the optimizers for PyTorch."""

from dataclasses import replace

from .case import Case

_SETUP = """\
import torch
import distopt.torch as dt
model = torch.nn.Linear(2, 1)
optimizer = dt.SGD(model, lr=0.1)
model(torch.ones(4, 2)).mean().backward()
"""

_CASES = [
    Case(
        "gradient of some replicas only",
        "A parameter has a gradient on some replicas only; the loss of the others did not use it.",
        "`unused='zero'` takes zeros there; or let all replicas use it.",
        _SETUP
        + """\
if rank:
    model.bias.grad = None
optimizer.step()  # here
""",
    ),
    Case(
        "parameter written on one replica",
        "One replica has written to a parameter between two steps, and the others have not written the same.",
        "Let all replicas write the same; take `if rank == 0` away from around it.",
        _SETUP
        + """\
optimizer.step()
if rank:
    torch.nn.init.zeros_(model.weight)
optimizer.step()  # here
""",
    ),
    Case(
        "optimizer made on one replica",
        "Making an optimizer is a collective call, since all get replica 0's parameters.",
        "Let all replicas make it.",
        _SETUP
        + """\
if rank == 0:
    dt.SGD(model, lr=0.1)  # here
""",
    ),
    Case(
        "step within no_sync",
        "`step()` aggregates gradients, and the block says that they are only added up.",
        "Leave the block before the last `backward()`, or before `step()`.",
        _SETUP
        + """\
with optimizer.no_sync():
    optimizer.step()  # here
""",
    ),
    Case(
        "parameters on a GPU",
        "The parameters are not in the memory of the CPU.",
        "`model.cpu()`; for GPUs there is PyTorch's DDP.",
        """\
import torch
import distopt.torch as dt
dt.Adam(torch.nn.Linear(2, 1, device='meta'))  # here
""",
    ),
]

CASES = [replace(case, needs="torch") for case in _CASES]
