"""Batches of a data set, dealt out to replicas: which examples, in which order, and where a pass goes on."""

import itertools
import json
import multiprocessing
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import distopt.torch as dt  # noqa: E402

sys.path.append(str(Path(__file__).parent.parent / "distribute"))
import jobs  # noqa: E402

pytestmark = pytest.mark.torch


def dealt(n, size, replicas, epoch=0, state=None, **options):
    """The global batches: for each, the parts of all replicas. And what each sampler says is its length."""
    passes, lengths = [], set()
    for rank in range(replicas):
        sampler = dt.DistributedBatchSampler(range(n), size, num_replicas=replicas, rank=rank, **options)
        if state is not None:
            sampler.load_state_dict(state)
        else:
            sampler.set_epoch(epoch)
        passes.append(list(sampler))
        lengths.add(len(sampler))
    (length,) = lengths
    return list(zip(*passes, strict=True)), length


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def joined(batches):
    return [flat(parts) for parts in batches]


def test_no_example_twice_and_none_lost_in_batches_of_nearly_the_same_size():
    for n, size, replicas in itertools.product((4, 5, 7, 12, 13, 29, 64), (1, 2, 3, 5), (1, 2, 3, 4)):
        batches, length = dealt(n, size, replicas)
        assert sorted(flat(joined(batches))) == list(range(n))
        assert len(batches) == length
        for k, parts in enumerate(batches):
            sizes = [len(part) for part in parts]
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= 1
            assert sum(sizes) == size * replicas or k == length - 1
        whole, rest = divmod(n, size * replicas)
        assert length == whole + (rest >= replicas)
        dropped, fewer = dealt(n, size, replicas, drop_last=True)
        assert len(dropped) == fewer == whole
        assert joined(dropped) == [batch[: size * replicas] for batch in joined(batches)[:whole]]


def test_a_global_batch_is_the_same_at_any_number_of_replicas():
    expected = joined(dealt(100, 12, 1, epoch=3, seed=5)[0])
    for replicas in (2, 3, 4, 6):
        assert joined(dealt(100, 12 // replicas, replicas, epoch=3, seed=5)[0])[:7] == expected[:7]
        found = joined(dealt(100, None, replicas, epoch=3, seed=5, global_batch_size=12)[0])
        assert found[:7] == expected[:7]
    parts = dealt(100, None, 5, global_batch_size=12)[0]
    assert [len(part) for part in parts[0]] == [3, 3, 2, 2, 2]


def test_orders_depend_on_seed_and_epoch_alone():
    orders = {
        (seed, epoch): tuple(flat(joined(dealt(50, 5, 2, epoch=epoch, seed=seed)[0])))
        for seed in (0, 1, -1)
        for epoch in (0, 1, 2)
    }
    assert len(set(orders.values())) == 9
    for order in orders.values():
        assert sorted(order) == list(range(50)) != list(order)
    assert tuple(flat(joined(dealt(50, 7, 3, epoch=1, seed=1)[0]))) == orders[1, 1]
    assert joined(dealt(5, 1, 2, shuffle=False)[0]) == [[0, 1], [2, 3, 4]]


def test_the_rest_of_an_epoch_at_another_number_of_replicas():
    first = dt.DistributedBatchSampler(range(103), 5, seed=3, num_replicas=4, rank=1)
    first.set_epoch(7)
    batches = iter(first)
    for _ in range(2):
        next(batches)
    state = first.state_dict()
    assert state == {"epoch": 7, "position": 40, "seed": 3, "shuffle": True, "examples": 103}
    before = joined(dealt(103, 5, 4, epoch=7, seed=3)[0])
    for replicas in (1, 2, 4, 7):
        rest = joined(dealt(103, 5, replicas, state=state)[0])
        assert flat(rest) == flat(before[2:])
    assert flat(joined(dealt(103, 40, 2, state={**state, "position": 102})[0])) == []


def test_a_pass_that_goes_on_is_followed_by_whole_ones():
    sampler = dt.DistributedBatchSampler(range(20), 4, num_replicas=1, rank=0)
    whole = list(sampler)
    sampler.load_state_dict({**sampler.state_dict(), "position": 8})
    sampler.set_epoch(0)  # as at the head of each epoch
    assert next(iter(sampler)) == whole[2]  # a look at the first batch changes nothing
    assert list(sampler) == whole[2:]
    assert sampler.state_dict()["position"] == 20
    assert list(sampler) == whole
    sampler.load_state_dict({**sampler.state_dict(), "position": 8})
    sampler.set_epoch(1)
    assert len(list(sampler)) == 5
    sampler.load_state_dict(sampler.state_dict())
    assert list(sampler) == []
    assert len(list(sampler)) == len(sampler) == 5


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 3}],
)
def test_the_position_is_that_of_what_a_loader_has_handed_out(options):
    data = TensorDataset(torch.arange(23))

    def program():
        sampler = dt.DistributedBatchSampler(data, 3)
        loader = DataLoader(data, batch_sampler=sampler, **options)
        assert len(loader) == 4
        seen, states, drawn = [], [], []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            for (x,) in loader:
                seen.append(x.tolist())
                drawn.append(torch.rand(()).item())
                states.append((sampler.state_dict(), torch.get_rng_state()))
            assert sampler.state_dict()["position"] == 23
        assert [state["position"] for state, _ in states] == [6, 12, 18, 23] * 2
        for at in (2, 3, 5):
            state, random = states[at]
            again = dt.DistributedBatchSampler(data, 3)
            again.load_state_dict(state)
            loader = DataLoader(data, batch_sampler=again, **options)
            torch.set_rng_state(random)
            found, numbers = [], []
            for epoch in range(state["epoch"], 2):
                again.set_epoch(epoch)
                for (x,) in loader:
                    found.append(x.tolist())
                    numbers.append(torch.rand(()).item())
            assert found == seen[at + 1 :]
            assert numbers == drawn[at + 1 :]
        return seen

    batches = [flat(parts) for parts in zip(*on_replicas(2, program), strict=True)]
    assert batches == joined(dealt(23, 3, 2)[0] + dealt(23, 3, 2, epoch=1)[0])


WORKERS = """
import json
import pathlib
import sys

import torch
from torch.utils.data import DataLoader, Dataset

import distopt.torch as dt


class Where(Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, i):
        return i, dt.rank(), dt.size(), "mpi4py" in sys.modules


if __name__ == "__main__":
    model = torch.nn.Linear(1, 1)
    optimizer, seen = dt.SGD(model, lr=0.1), []
    for how, workers in (("fork", 2), ("spawn", 1)):
        sampler = dt.DistributedBatchSampler(Where(), 2)
        options = {"num_workers": workers, "persistent_workers": True, "multiprocessing_context": how}
        loader = DataLoader(Where(), batch_sampler=sampler, **options)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            for i, rank, size, mpi in loader:
                optimizer.zero_grad()
                model(i.float()[:, None]).mean().backward()
                optimizer.step(examples=len(i))
                assert set(rank.tolist()) == {0} and set(size.tolist()) == {1}
                assert how == "fork" or not mpi.any()
                position = sampler.state_dict()["position"]
                seen.append([how, epoch, position, i.tolist()])
    pathlib.Path(__file__).with_name(f"seen-{dt.rank()}").write_text(json.dumps(seen))
"""


@pytest.mark.launches
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_of_replicas_are_no_replicas_and_start_no_mpi(tmp_path):
    (program := tmp_path / "train.py").write_text(WORKERS)
    done = jobs.run(jobs.mpi(2, program))
    assert done.code == 0, done.err
    seen = flat(json.loads((tmp_path / f"seen-{replica}").read_text()) for replica in range(2))
    for key in itertools.product(("fork", "spawn"), (0, 1)):
        batches = [(position, batch) for *own, position, batch in seen if tuple(own) == key]
        assert sorted(position for position, _ in batches) == [4, 4, 9, 9]
        assert sorted(flat(batch for _, batch in batches)) == list(range(9))


def test_arguments_and_states_that_cannot_be():
    make = dt.DistributedBatchSampler
    with pytest.raises(TypeError, match="either batch_size or global_batch_size"):
        make(range(4))
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1; got 0"):
        make(range(4), 0)
    with pytest.raises(ValueError, match="global_batch_size must be a whole number of at least 3; got 2"):
        make(range(4), global_batch_size=2, num_replicas=3, rank=0)
    with pytest.raises(ValueError, match="2 examples are too few for 3 replicas"):
        make(range(2), 1, num_replicas=3, rank=0)
    with pytest.raises(ValueError, match="rank must be from 0 to 1; got 2"):
        make(range(4), 1, num_replicas=2, rank=2)
    with pytest.raises(TypeError, match="data of known length; generator has none"):
        make((i for i in range(3)), 1)
    sampler = make(range(4), 1)
    with pytest.raises(ValueError, match=r"saved with len\(data\) = 5; here it is 4"):
        sampler.load_state_dict(make(range(5), 1).state_dict())
    with pytest.raises(ValueError, match="saved with shuffle = False; here it is True"):
        sampler.load_state_dict(make(range(4), 1, shuffle=False).state_dict())
    with pytest.raises(ValueError, match="position 5"):
        sampler.load_state_dict({**sampler.state_dict(), "position": 5})
    assert len(list(sampler)) == 4
    assert list(make(range(0), 2)) == []


def test_distributed_sampler_is_that_of_torch():
    data = range(11)

    def program():
        sampler = dt.DistributedSampler(data, seed=4)
        sampler.set_epoch(2)
        return list(sampler), dt.rank()

    for replicas in (1, 3):
        for found, rank in on_replicas(replicas, program):
            expected = torch.utils.data.DistributedSampler(data, replicas, rank, seed=4)
            expected.set_epoch(2)
            assert found == list(expected)


def test_worker_processes_are_one_replica_each():
    class Ranks(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return i, dt.rank(), dt.size(), multiprocessing.parent_process() is not None

    def program():
        sampler = dt.DistributedBatchSampler(Ranks(), 1)
        return [
            [int(x) for x in batch] for batch in DataLoader(Ranks(), batch_sampler=sampler, num_workers=1)
        ]

    found = on_replicas(2, program)
    assert sorted(i for part in found for i, *_ in part) == [0, 1, 2, 3]
    assert {tuple(rest) for part in found for _, *rest in part} == {(0, 1, True)}
