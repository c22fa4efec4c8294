"""Gradients that travel while the backward pass goes on: the same bits, whatever programs do to them."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import overlapped_steps

sys.path.append(str(Path(__file__).parent.parent / "engine"))
import overlapped

pytestmark = [pytest.mark.torch, pytest.mark.launches]


QUICK = [
    *("plain", "clip before step", "accumulation", "edits unseen by torch"),
    *("exception in the backward pass", "skip", "mismatch"),
]


def test_torch_programs_have_the_bits_of_steps_without_overlap(tmp_path):
    overlapped.compare(overlapped_steps, 2, 2, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "nodes"), [(2, 2), (4, 2), (3, 3)])
def test_all_torch_programs_have_the_bits_of_steps_without_overlap(tmp_path, processes, nodes):
    overlapped.compare(overlapped_steps, processes, nodes, tmp_path)
