"""A small training of a PyTorch model that saves and goes on; run as a script by every replica, and by tests.

python saved_torch_training.py DIRECTORY STEPS [SAVE_AT ...] trains up to STEPS, saves after those steps, and
prints the SHA-256 of the model, the optimizer and all that the next step would draw from. With SLEEP in the
environment it saves after every step, and takes that many seconds for each.
"""

import hashlib
import os
import sys
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import distopt.torch as dt
from distopt.checkpoint import CheckpointManager
from distopt.distribute import get_replica_context


def data():
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, (x.sum(dim=1) > 0).long())


def parts():
    """Model, optimizer and schedule; batch norm makes buffers that differ between replicas."""
    torch.manual_seed(5 + dt.rank())
    layers = torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Dropout(0.3)
    model = torch.nn.Sequential(*layers, torch.nn.Linear(8, 2))
    optimizer = dt.AdamW(model, lr=0.01, amsgrad=True, clip_grad_norm=1.0)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=60)


def digest_of(model, optimizer):
    own = [value.flatten().double().numpy() for value in model.buffers()]
    own.append(torch.rand(2, dtype=torch.float64).numpy())
    gathered = get_replica_context().all_gather(np.concatenate(own), axis=0)
    hashed = hashlib.sha256(np.asarray(gathered).tobytes())
    states = [optimizer.state[p].values() for p in model.parameters()]
    for value in (*model.parameters(), *(value for state in states for value in state)):
        hashed.update(torch.as_tensor(value).detach().numpy().tobytes())
    return hashed.hexdigest()


def training(directory, steps, save_at=(), pause=0.0, workers=0, batch_size=None):
    """Trains; the digest of the end."""
    model, optimizer, schedule = parts()
    scaler, mine = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3), {"step": 0, "epoch": 0}
    sampler = dt.DistributedBatchSampler(data(), batch_size or 4, seed=3)
    loader = DataLoader(data(), batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    manager = CheckpointManager(
        directory,
        model=model,
        optimizer=optimizer,
        scheduler=schedule,
        sampler=sampler,
        scaler=scaler,
        mine=mine,
    )
    manager.restore()
    while mine["step"] < steps:
        sampler.set_epoch(mine["epoch"])
        for x, y in loader:
            optimizer.zero_grad()
            scaler.scale(torch.nn.functional.cross_entropy(model(x), y)).backward()
            scaler.step(optimizer, examples=len(x))
            scaler.update()
            schedule.step()
            mine["step"] += 1
            time.sleep(pause)
            if pause or mine["step"] in save_at:
                manager.save()
            if mine["step"] == steps:
                break
        else:
            mine["epoch"] += 1
    return digest_of(model, optimizer)


if __name__ == "__main__":
    where, last, *saves = sys.argv[1:]
    result = training(where, int(last), set(map(int, saves)), float(os.environ.get("SLEEP", "0")), workers=2)
    if dt.rank() == 0:
        print("digest", result, flush=True)
