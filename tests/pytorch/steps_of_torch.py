"""A program of PyTorch whose bits must not depend on how its replicas are laid out; prints their hash."""

import hashlib

import torch

import distopt.torch as distopt_torch


def model():
    torch.manual_seed(0)
    made = torch.nn.Sequential(
        torch.nn.Embedding(40, 30, sparse=True),
        torch.nn.Linear(30, 70),
        torch.nn.Tanh(),
        torch.nn.Linear(70, 3),
    )
    return made.append(torch.nn.Linear(3, 2).double())


def loss(module, step):
    generator = torch.Generator().manual_seed(10 * step + distopt_torch.rank())
    rows = torch.randint(0, 40, (5,), generator=generator)
    return (module[4](module[:4](rows).double()) ** 2).mean()


def optimizers(module):
    """One for rows, and one of two groups and dtypes that clips."""
    yield distopt_torch.SGD(module[0].parameters(), lr=0.1)
    groups = [{"params": module[1:4].parameters()}, {"params": module[4].parameters(), "lr": 0.03}]
    yield distopt_torch.AdamW(groups, lr=0.01, amsgrad=True, clip_grad_norm=0.1)


def main():
    """The hash of all parameters and of the state after some steps, weighed and edited."""
    torch.set_num_threads(1)
    module = model()
    made = list(optimizers(module))
    for step in range(4):
        module.zero_grad()
        loss(module, step).backward()
        if step == 2:
            module[1].weight.data.clamp_(-0.05, 0.05)
            made[1].state[module[3].bias]["exp_avg"].mul_(0.5)
        if step == 3:
            module[4].bias.requires_grad_(False).grad = None
            module[4].bias.data.add_(1.0)
        for optimizer in made:
            optimizer.step(examples=3 + distopt_torch.rank() if step % 2 else None)
    digest = hashlib.sha256()
    for parameter in module.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    for optimizer in made:
        for entry in optimizer.state_dict()["state"].values():
            for name in sorted(entry):
                if entry[name] is not None:
                    digest.update(entry[name].numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    found = main()
    if distopt_torch.rank() == 0:
        print("HASH", found, "of", distopt_torch.size(), flush=True)
