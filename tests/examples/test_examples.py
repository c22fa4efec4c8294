"""Every example does what it promises, on one replica and on two. Each checks its own result."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: What the last line of an example's output begins with.
LAST_WORDS = {
    "custom_loop.py": "accuracy 0.9",
    "diabetes.py": "explains 0.",
    "digits.py": "accuracy 0.9",
    "plain_numpy.py": "",
    "text.py": "accuracy 0.",
}
LIMIT = 120


def test_every_example_is_here() -> None:
    assert sorted(LAST_WORDS) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.launches
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", sorted(LAST_WORDS))
def test_example(name: str, count: int, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name)]
    if count > 1:
        launcher = Path(sys.executable).with_name("distoptrun")
        command = [str(launcher), "-n", str(count), str(EXAMPLES / name)]
    lines = run(command, tmp_path)
    assert any(LAST_WORDS[name] in line for line in lines[-2:])
    if name == "digits.py":
        pictures = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert pictures == ["confusions.png", "curve.png"]
        # A line an epoch, from replica 0 only.
        assert sum("Epoch 30/30" in line for line in lines) == 1
        assert sum("images per second" in line for line in lines) == 1
