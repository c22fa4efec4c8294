"""Records the jobs of howto/stragglers.md for its pictures: python docs/straggler_cases.py. Takes minutes.

Arguments are names of cases; all by default. Three replicas, of which the last one is slow; and three hosts,
of which the last one sends slowly, where this machine can have namespaces (superuser, Linux, iproute2).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_name("figures") / "stragglers.json"
PROGRAMS = ROOT / "tests" / "distribute"
CASES = ["own code", "input", "saving", "stopped", "none", "wire"]
REPLICAS, STEPS = 3, 40
#: Of the slow network: steps, float32 parameters, and bytes a second of all hosts and of the slow one.
WIRE_STEPS, SIZE, FAST, SLOW = 20, 250_000, "20e6", "3e6"


def job(command: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """What a job prints: its figures, and its last words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=env)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    said = [line for line in done.stderr.splitlines() if "lost by waiting" in line]
    return {**found, "said": said[0].removeprefix("distopt: ") if said else ""}


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What the pictures need."""
    spent = {phase: [round(s, 3) for s in seconds] for phase, seconds in found["spent"].items()}
    names = ("offsets", "straggler", "wire", "said")
    return {"spent": spent, **{name: found[name] for name in names if name in found}}


def wire() -> dict[str, Any]:
    """The job over three hosts."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.namespaces import relayed

    with relayed(REPLICAS) as hosts:
        hosts.say(f"all rate {FAST}")
        hosts.say(f"{REPLICAS - 1} rate {SLOW}")
        program = [sys.executable, str(PROGRAMS / "wire_program.py"), str(WIRE_STEPS), str(SIZE)]
        env = {**os.environ, **hosts.env, "PYTHONPATH": str(ROOT)}
        return job([*hosts.prefix(REPLICAS, 1), *program], env)


def main(names: list[str]) -> None:
    """Records these cases."""
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    cases = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in names:
        program = [sys.executable, str(PROGRAMS / "slow_replica.py"), name, str(STEPS)]
        found = wire() if name == "wire" else job([mpiexec, "-n", str(REPLICAS), *program])
        cases[name] = kept(found)
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    FILE.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
