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
        "A parameter has a gradient on some replicas only, because the loss of the others did not use it.",
        "Pass `unused='zero'` to use zeros there, or use the parameter on all replicas.",
        _SETUP
        + """\
if rank:
    model.bias.grad = None
optimizer.step()  # here
""",
    ),
    Case(
        "parameter written on one replica",
        "One replica wrote to a parameter between two steps, and the others did not write the same values.",
        "Write the same values on all replicas, without `if rank == 0`.",
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
        "Creating an optimizer is a collective call, because all replicas get the parameters of replica 0.",
        "Create it on all replicas.",
        _SETUP
        + """\
if rank == 0:
    dt.SGD(model, lr=0.1)  # here
""",
    ),
    Case(
        "step within no_sync",
        "`step()` exchanges gradients, but `no_sync()` announces that they are only accumulated.",
        "Call `step()` after the block.",
        _SETUP
        + """\
with optimizer.no_sync():
    optimizer.step()  # here
""",
    ),
    Case(
        "parameters on a GPU",
        "The parameters are not on the CPU.",
        "Call `model.cpu()`. For GPUs use PyTorch's DDP.",
        """\
import torch
import distopt.torch as dt
dt.Adam(torch.nn.Linear(2, 1, device='meta'))  # here
""",
    ),
]

CASES = [replace(case, needs="torch") for case in _CASES]
