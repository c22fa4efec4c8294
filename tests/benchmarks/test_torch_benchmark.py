"""What the benchmark of PyTorch models compares, and its figures to reach."""

import numpy as np
import pytest

from benchmarks import torch_memory
from benchmarks.torch import targets
from benchmarks.torch_peers import BARE, DDP, OURS


def test_overhead_counts_where_ddp_has_much_of_it():
    much = targets("encoder", {BARE: 80.0, DDP: 100.0, OURS: 85.0})
    assert [(target.value, target.limit) for target in much] == [(0.25, 0.35)]
    assert targets("encoder", {BARE: 90.0, DDP: 100.0, OURS: 99.0}) == []


def test_small_mlp_has_to_be_twice_as_fast():
    faster, overhead = targets("MLP, batch 64", {BARE: 20.0, DDP: 100.0, OURS: 40.0})
    assert (faster.value, faster.limit, faster.met) == (0.4, 0.5, True)
    assert overhead.value == pytest.approx(0.25)
    slower, _ = targets("MLP, batch 64", {BARE: 20.0, DDP: 100.0, OURS: 51.0})
    assert not slower.met


@pytest.mark.parametrize(("over_bare", "share"), [(23.0, 1.0), (34.5, 1.1), (92.0, 1.6)])
def test_memory_is_a_share_of_parameters_gradients_and_slots(over_bare, share):
    found = {OURS: {"MB over bare": over_bare, "parameters MB": 23.0}}
    target = torch_memory.target(found)
    assert target.value == pytest.approx(share)
    assert target.met == (share <= 1.05)
    assert f"{over_bare} MB over bare; expected 23.0" in torch_memory.note(found)


@pytest.mark.torch
def test_models_have_their_known_parameters():
    pytest.importorskip("torch")
    from benchmarks.torch_models import CASES, TINY

    counts = {name: sum(p.numel() for p in case.model().parameters()) for name, case in CASES.items()}
    width = 384
    block = 12 * width**2 + 13 * width  # attention, two dense layers, two normalizations
    assert counts == {
        "MLP, batch 64": 5_809_450,
        "MLP, batch 256": 5_809_450,
        "ResNet-18": 11_173_962,
        "encoder": 6 * block + (256 + 32) * width + width * 10 + 10,
        "table": 390_625 * 64 + 64 * 64 + 64 + 64 * 10 + 10,
    }
    assert list(TINY) == list(CASES)


@pytest.mark.torch
def test_batches_of_the_table_touch_a_thousandth_of_it():
    pytest.importorskip("torch")
    from benchmarks.torch_models import CASES

    batches = [x for rank in (0, 1) for x, _ in CASES["table"].batches(rank)]
    assert all(len(np.unique(rows)) == rows.size == 390 for rows in batches)
    assert len({rows.tobytes() for rows in batches}) == len(batches)


@pytest.mark.torch
def test_training_goes_through_its_batches_in_turn():
    torch = pytest.importorskip("torch")
    from benchmarks.models import TorchTraining

    seen = []
    model = torch.nn.Linear(1, 10)
    model.register_forward_pre_hook(lambda _, given: seen.append(float(given[0][0, 0])))
    batches = [(np.full((1, 1), k, np.float32), np.zeros(1, np.int64)) for k in range(2)]
    training = TorchTraining(model, batches, [torch.optim.SGD(model.parameters(), lr=0.5)])
    before = model.weight.detach().clone()
    for _ in range(3):
        training.prepare()
        training.step()
    assert seen == [0.0, 1.0, 0.0]
    assert not torch.equal(before, model.weight)
