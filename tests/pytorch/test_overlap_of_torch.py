"""Gradients that travel while the backward pass goes on: the same bits, whatever programs do to them."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import overlapped_steps

sys.path.append(str(Path(__file__).parent.parent / "engine"))
import overlapped

pytestmark = [pytest.mark.torch, pytest.mark.launches]


@pytest.mark.parametrize(
    ("processes", "nodes"),
    [
        (2, 2),
        pytest.param(4, 2, marks=pytest.mark.slow),
        pytest.param(3, 3, marks=pytest.mark.slow),
    ],
)
def test_torch_programs_have_the_bits_of_steps_without_overlap(tmp_path, processes, nodes):
    overlapped.compare(overlapped_steps, processes, nodes, tmp_path)
