"""A small PyTorch model: one step by ``distopt.torch``, and when it was finished."""

import sys
import time
from pathlib import Path

import torch

import distopt.torch as dt

model = torch.nn.Linear(64, 64)
optimizer = dt.Adam(model.parameters())
model(torch.ones(1, 64)).sum().backward()
optimizer.step()

finished = time.time()
if dt.rank() == 0:
    Path(sys.argv[1]).write_text(repr(finished))
