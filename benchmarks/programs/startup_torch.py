"""The same under ``torchrun``: one step of DDP."""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.Adam(model.parameters(), fused=True)
model(torch.ones(1, 64)).sum().backward()
optimizer.step()

finished = time.time()
if dist.get_rank() == 0:
    Path(sys.argv[1]).write_text(repr(finished))
dist.barrier()  # whoever leaves first takes the store away
sys.stdout.flush()
os._exit(0)  # Gloo's threads sometimes abort a process that ends in the ordinary way
