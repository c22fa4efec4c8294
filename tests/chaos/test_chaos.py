"""The short form of each scenario: a few faults of each kind, and every job ends as it has to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("mpi4py")
pytest.importorskip("sklearn")
pytest.importorskip("safetensors")


def run(*words, timeout=200):
    return subprocess.run(
        [sys.executable, "-m", "chaos", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.launches
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        pytest.param("soak", 10, marks=pytest.mark.slow),
        pytest.param("kill", 3, marks=pytest.mark.slow),
        pytest.param("stop", 3, marks=pytest.mark.slow),
        pytest.param("preempt", 3, marks=pytest.mark.slow),
        pytest.param("faults", 6, marks=pytest.mark.slow),
        pytest.param("network", 2, marks=pytest.mark.slow),
    ],
)
def test_short_form(name, rows, tmp_path):
    done = run(name, "--short", "--json", "--out", str(tmp_path))
    if "not possible here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    wrong = [row for row in found["rows"] if row["wrong"]]
    assert not wrong, json.dumps(wrong, indent=1)
    assert done.returncode == 0, done.stderr
    assert found["good"]
    assert len(found["rows"]) >= rows
    assert json.loads((tmp_path / f"{name}.json").read_text()) == found


def test_unknown_scenario():
    done = run("kil")
    assert done.returncode == 2
    assert "no scenario 'kil'" in done.stderr


def test_other_users_cannot_enter_a_scenarios_folder():
    code = """
import os
from chaos.jobs import folder, start
with folder() as place:
    start(["true"], place).finish(10)
    print(oct(os.stat(place).st_mode & 0o777), oct(os.stat(place / "tmp").st_mode & 0o002))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "0o700 0o0\n", done.stderr
