"""``python -m benchmarks [NAME ...]`` runs benchmarks; ``compare A B`` compares two runs."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import compare
from benchmarks.effort import EFFORTS
from benchmarks.jobs import ROOT, JobFailed
from benchmarks.network import Unavailable
from benchmarks.plots import draw
from benchmarks.report import print_tables, write_all, write_json

BENCHMARKS = {
    "step": "the step of Adam beside PyTorch's, MPI + NumPy's, and the memory's floor",
    "large_batch": "accuracy on digits at a global batch of 1,024, by optimizer",
    "compression": "accuracy over two pretended nodes, by what travels between them and when",
    "optimizers": "the step of each optimizer, with clips, user code, private memory: over its floor",
    "matrices": "the step of Muon and Adafactor at 1 and 2 replicas, beside PyTorch's",
    "mlp": "whole training steps of MLPs beside PyTorch DDP",
    "memory": "bytes a node beside PyTorch DDP",
    "scaling": "the step over replicas and parameters",
    "network": "two hosts joined at 1 Gbit/s: over the wire's floor (superuser, Linux, iproute2)",
    "nodes": "messages and bytes over 2 to 16 nodes; hosts 50 us to 20 ms apart (superuser, Linux, iproute2)",
    "overlap": "PyTorch models over two hosts at 1 and 10 Gbit/s, beside DDP (superuser, Linux, iproute2)",
    "startup": "from the command line to the first finished step, beside torchrun",
    "calls": "how many Python functions, in how many files, a small step goes through",
    "ledger": "what it costs in a step to know which replica comes when",
    "tricks": "the step with and without each thing that is there for speed only",
    "timeline": "a step while distoptrun --timeline records it",
    "layers": "forward and backward, and fit, beside PyTorch, one replica",
    "torch": "training steps of PyTorch models by distopt.torch, beside PyTorch DDP; memory and startup too",
    "jax": "training steps of a JAX model by distopt.jax, beside JAX + Gloo (jax.distributed)",
}


def main() -> int:
    """Runs what the command line asks for.

    Returns:
        0; 1 if a benchmark failed or, asked for by name, is not possible here.
    """
    if sys.argv[1:2] == ["compare"]:
        return compare.main(sys.argv[2:])
    options = _parse()
    # So that what a benchmark has set up (network namespaces, jobs) is taken down again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    effort = replace(EFFORTS[options.effort], only=options.only)
    failed, documents = False, []
    for name in options.names or BENCHMARKS:
        begin = time.perf_counter()
        try:
            found = importlib.import_module(f"benchmarks.{name}").report(effort)
        except Unavailable as reason:
            print(f"{name}: not possible here: {reason}", file=sys.stderr)
            failed = failed or bool(options.names)
            continue
        except JobFailed as reason:
            print(f"{name}: {reason}", file=sys.stderr)
            failed = True
            continue
        documents.append(found.document(effort.name))
        files = [write_json(found, effort.name, options.out), draw(found, options.out)]
        if options.json:
            print(json.dumps(documents[-1]))
            continue
        print_tables(found)
        print(f"{time.perf_counter() - begin:.0f} s; {', '.join(map(str, files))}\n", flush=True)
    if documents:
        everything = write_all(documents, options.out)
        if not options.json:
            print(f"all figures: {everything}")
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times distopt and its peers in the same run.",
        epilog="\n".join(f"  {name:<11} {what}" for name, what in BENCHMARKS.items())
        + "\n\npython -m benchmarks compare A B: two files of figures (all.json), regressions marked",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all by default")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--full", dest="effort", action="store_const", const="full", help="largest sizes, more rounds"
    )
    size.add_argument(
        "--tiny", dest="effort", action="store_const", const="tiny", help="only show that they run"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one line a benchmark, not tables")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "bench", help="folder of JSON files and pictures"
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="compression: cases with these words")
    parser.set_defaults(effort="quick")
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
