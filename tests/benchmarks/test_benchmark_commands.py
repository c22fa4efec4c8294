"""Each benchmark runs at tiny sizes, prints valid JSON, and leaves a file and a picture. No figure counts."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITH_TORCH = {"step", "mlp", "memory", "startup", "layers", "matrices", "torch"}
COLUMNS = {
    "memory": "bytes a parameter",
    "startup": "s",
    "calls": "calls",
    "large_batch": "accuracy, %",
    "compression": "accuracy, %",
    "ledger": "ns",
}
SLOW = [
    "step",
    "optimizers",
    "large_batch",
    "compression",
    "matrices",
    "mlp",
    "memory",
    "scaling",
    "network",
    "nodes",
    "startup",
    "timeline",
    "ledger",
    "tricks",
    "layers",
    "torch",
    "jax",
]
NAMES = ["calls", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def run(*words, timeout=240):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.launches
@pytest.mark.parametrize("name", NAMES)
def test_runs(name, tmp_path):
    if name in WITH_TORCH and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    if name == "torch":
        pytest.importorskip("distopt.torch")
    if name == "jax":
        pytest.importorskip("jax")
        pytest.importorskip("optax")
    done = run(name, "--tiny", "--json", "--out", str(tmp_path))
    if done.returncode and "not possible here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["benchmark"] == name
    assert found["effort"] == "tiny"
    column = COLUMNS.get(name, "ms")
    assert len(found["rows"]) >= 2
    assert all(row[column] > 0 for row in found["rows"])
    assert all({"what", "value", "limit", "met"} <= set(target) for target in found["targets"])
    assert json.loads((tmp_path / f"{name}.json").read_text()) == found
    assert json.loads((tmp_path / "all.json").read_text())["reports"] == [found]
    if name == "calls":  # the only figures that do not depend on the machine
        assert all(target["met"] for target in found["targets"]), found["targets"]
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if name in ("network", "nodes") and shutil.which("ip"):
        left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
        owners = [line.split("-")[1] for line in left.splitlines() if line.startswith("distoptbench-")]
        assert all(Path("/proc", pid).exists() for pid in owners)  # another run's, which still goes on


def test_unknown_name():
    done = run("stp")
    assert done.returncode == 2
    assert "no benchmark 'stp'; known: step" in done.stderr
