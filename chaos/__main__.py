"""``python -m chaos [NAME ...]``: injects faults; prints a table and writes JSON of the results."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from pathlib import Path

from benchmarks.namespaces import Unavailable
from chaos.jobs import ROOT
from chaos.report import print_table, write_json

SCENARIOS = {
    "kill": "kill -9 of a random replica at random moments of a training with --max-restarts",
    "stop": "SIGSTOP of a replica, with and without SIGCONT in time",
    "preempt": "preemption after preemption in one training",
    "faults": "replicas, machines and command lines that are at fault: what is said, and how soon",
    "network": "two hosts: packets lost, late or few, a link that is down, a host that dies",
    "soak": "many steps: memory, descriptors and shared segments stay flat",
}


def main() -> int:
    """Runs the scenarios of the command line.

    Returns:
        0; 1 if a job did not end as expected.
    """
    options = _parse()
    # So that a running job is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell's background jobs ignore Ctrl-C, and so would the launchers, to which scenarios send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    failed = False
    for name in options.names or SCENARIOS:
        begin = time.perf_counter()
        try:
            found = importlib.import_module(f"chaos.{name}").report(options.short, options.seed)
        except Unavailable as reason:
            print(f"{name}: not possible here: {reason}", file=sys.stderr)
            failed = failed or bool(options.names)
            continue
        found.seconds = time.perf_counter() - begin
        failed = failed or not found.good
        file = write_json(found, options.out)
        if options.json:
            print(json.dumps(found.document()), flush=True)
        else:
            print_table(found)
            print(f"{found.seconds:.0f} s; {file}\n", flush=True)
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="Injects faults, and checks what happens to the jobs.",
        epilog="\n".join(f"  {name:<8} {what}" for name, what in SCENARIOS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all by default")
    parser.add_argument("--short", action="store_true", help="a few of each: seconds instead of minutes")
    parser.add_argument("--json", action="store_true", help="print JSON, one line a scenario, not tables")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "chaos", help="folder of the JSON files")
    options = parser.parse_args()
    for name in options.names:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}; known: {', '.join(SCENARIOS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
