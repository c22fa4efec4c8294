"""What the benchmarks' figures are made from."""

import json
import sys
import time

import numpy as np
import pytest

from benchmarks import jobs, shapes
from benchmarks.clock import solo, turns
from benchmarks.floor import Floor, TrustRatioFloor
from benchmarks.model import BLOCK, Constants, predicted, wire_floor
from benchmarks.plots import draw
from benchmarks.report import Picture, Report, Target, print_tables, shown, write_json
from benchmarks.scaling import slope


def test_resnet50_has_its_known_parameters():
    sizes = shapes.resnet50()
    assert len(sizes) == 161
    assert shapes.total(sizes) == 25_557_032


def test_even_shapes():
    assert shapes.total(shapes.even(25_000_000, 50)) == 25_000_000


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(("gradients", "slots"), [(1, 0), (2, 2), (4, 3)])
def test_floor_touches_every_element(gradients, slots, kept):
    floor = Floor(1001, gradients, slots, kept)
    floor.step()
    _, arrays = floor._passes[-1]
    for state in arrays[-(1 + slots) :]:
        np.testing.assert_array_equal(state, np.full(1001, 1 - gradients, np.float32))


def test_floor_of_trust_ratios_touches_every_element():
    floor = TrustRatioFloor(1001, 2, 2, 1)
    floor.step()
    (_, (*_, m, v, directions)), (_, (_, w, trace)) = floor._passes
    for array, value in ((m, -2), (v, -2), (directions, 3), (w, -2), (trace, -2)):
        np.testing.assert_array_equal(array, np.full(1001, value, np.float32))


def test_turns_give_each_peer_its_rounds():
    calls = []

    class Peer:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def prepare(self):
            time.sleep(0.01)  # not timed

        def step(self):
            calls.append(self.name)
            time.sleep(self.seconds)

    found = turns(solo(), {"a": Peer("a", 0.0), "b": Peer("b", 0.002)}, rounds=3, seconds=0.0)
    assert {name: len(times) for name, times in found.items()} == {"a": 3, "b": 3}
    assert min(found["b"]) >= 0.002
    assert "".join(calls).endswith("aabb" + "bbaa" + "aabb")


def test_wire_floor_is_that_of_a_ring():
    assert wire_floor(1_000_000, 2, 125e6) == pytest.approx(0.032)
    assert wire_floor(1_000_000, 4, 125e6) == pytest.approx(0.048)
    assert wire_floor(1_000_000, 1, 125e6) == 0


def test_model_at_its_limits():
    slow_wire = Constants(fixed=1e-3, per_parameter=1e-12, bytes_per_second=1e8)
    parameters = 100 * BLOCK
    expected = 1e-3 + wire_floor(parameters, 2, 1e8)
    assert predicted(parameters, 2, slow_wire) == pytest.approx(expected, rel=1e-3)
    slow_memory = Constants(fixed=1e-3, per_parameter=1e-9, bytes_per_second=1e15)
    assert predicted(parameters, 2, slow_memory) == pytest.approx(1e-3 + 1e-9 * parameters, rel=1e-3)
    assert predicted(parameters, 1, slow_memory) == pytest.approx(1e-3 + 1e-9 * parameters)


def test_model_of_messages_by_hand():
    """8 nodes: 6 messages a block; blocks as large as they may be, since messages cost all of the time."""
    chatty = Constants(fixed=0.0, per_parameter=0.0, bytes_per_second=1e15, message=1e-5)
    assert predicted(80 * BLOCK, 8, chatty) == pytest.approx(6 * 10 * 1e-5, rel=1e-3)
    late = Constants(fixed=0.0, per_parameter=0.0, bytes_per_second=1e15, latency=1e-3)
    assert predicted(80 * BLOCK, 2, late) == pytest.approx(2e-3 * (1 + 9 / 3), rel=1e-3)


def test_model_grows_with_the_logarithm_of_the_nodes():
    fast = Constants(
        fixed=1e-3, per_parameter=6e-10, bytes_per_second=0.95 * 12.5e9, message=1e-5, latency=1e-5
    )
    two, many = (predicted(25_000_000, nodes, fast) for nodes in (2, 256))
    assert many < 1.6 * two


def test_slope():
    assert slope([(10, 3.0), (100, 30.0), (1000, 300.0)]) == pytest.approx(1)
    assert slope([(10, 3.0), (100, 300.0)]) == pytest.approx(2)


def test_report(tmp_path, capsys):
    report = Report("r", "a title", Picture("bars", "case", "peer", "ms"))
    report.rows = [
        {"case": "c", "peer": "p", "ms": 1.5, "rounds_ms": [1.0, 2.0]},
        {"case": "c", "peer": "q", "ms": 12345.6},
    ]
    report.targets = [Target("reach", 1.0, 2.0, " x"), Target("miss", 3.0, 2.0, " x")]
    document = json.loads(write_json(report, "tiny", tmp_path).read_text())
    assert [target["met"] for target in document["targets"]] == [True, False]
    assert document["rows"] == report.rows
    assert document["machine"]["cores"] >= 1
    assert draw(report, tmp_path).stat().st_size > 1000
    print_tables(report)
    said = capsys.readouterr().out
    assert "rounds_ms" not in said
    assert "12,346" in said
    assert "not reached" in said


def test_lines_picture(tmp_path):
    report = Report("r", "a title", Picture("lines", "parameters", "series", "ms"))
    report.rows = [{"parameters": n, "series": "s", "ms": n / 10} for n in (10, 100)]
    assert draw(report, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_numbers_have_four_digits():
    assert [shown(x) for x in (0.000123456, 1.23456, 1234567.8, 25_000_000, "x")] == [
        "0.0001235",
        "1.235",
        "1,234,568",
        "25,000,000",
        "x",
    ]


def test_a_job_that_hangs_is_ended():
    words = [sys.executable, "-c", "import time; print('began', flush=True); time.sleep(60)"]
    begin = time.monotonic()
    with pytest.raises(jobs.JobFailed, match="not finished after 1 s"):
        jobs.run_command(words, 1.0, jobs.environment())
    assert time.monotonic() - begin < 20


def test_a_job_that_fails_tells_its_last_words():
    with pytest.raises(jobs.JobFailed, match=r"(?s)exit code 3.*alas"):
        jobs.run_command([sys.executable, "-c", "print('alas'); raise SystemExit(3)"], 30, jobs.environment())
