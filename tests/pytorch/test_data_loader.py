"""DataLoader: the batches of PyTorch's own, and time that counts as input."""

import time

import pytest
from replicated import on_replicas, rank

import distopt as tf

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
import distopt.torch as dt  # noqa: E402


class Slow(torch.utils.data.Dataset):
    def __init__(self, late):
        self.late = late

    def __len__(self):
        return 8

    def __getitem__(self, i):
        time.sleep(self.late)
        return torch.tensor([float(i)])


def test_batches_are_those_of_pytorch():
    sampler = dt.DistributedBatchSampler(range(8), 3, seed=1)
    ours, theirs = (
        kind(Slow(0), batch_sampler=sampler) for kind in (dt.DataLoader, torch.utils.data.DataLoader)
    )
    assert len(ours) == len(theirs) == 3
    for _ in range(2):
        for own, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own, other)


def test_its_time_is_input():
    def program():
        tf.distribute.get_replica_context().all_reduce("sum", 1.0)
        for _ in dt.DataLoader(Slow(0.02 * rank()), batch_size=4):
            pass
        tf.distribute.get_replica_context().all_reduce("sum", 1.0)
        return tf.report()

    spent = on_replicas(2, program)[0].to_dict()["spent"]
    assert spent["input"][1] >= 0.16
    assert spent["own code"][1] < 0.16
