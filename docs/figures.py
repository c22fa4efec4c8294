"""Draws the figures of the documentation as SVG files into figures/: python docs/figures.py.

Each figure has a background of its own and follows the reader's light or dark scheme. A test compares the
files with what this module draws.
"""

from __future__ import annotations

from pathlib import Path

import straggler_figures
from drawing import Drawing

FOLDER = Path(__file__).with_name("figures")


def step() -> Drawing:
    """The three stages of a step, between the replicas' gradients and their variables."""
    d = Drawing(760, 400, "One step: aggregate, transform, update")
    xs = (70, 280, 490)
    for number, x in enumerate(xs):
        name = f"replica {number}" if number < 2 else "replica N-1"
        d.box(x, 20, 200, 48, name, "one", "gradients of its own examples")
        d.line([(x + 100, 68), (x + 100, 90), (380, 90), (380, 110)])
    stages = (
        ("aggregate", "sum over replicas, mean, Adasum, or your function", "two"),
        ("transform", "clips, then your functions", "three"),
        ("update", "SGD, Adam, ...: each replica updates one part of the parameters", "four"),
    )
    for i, (name, what, kind) in enumerate(stages):
        y = 110 + 68 * i
        d.box(150, y, 460, 48, name, kind, what)
        if i < 2:
            d.line([(380, y + 48), (380, y + 68)])
    for x in xs:
        d.line([(380, 294), (380, 314), (x + 100, 314), (x + 100, 332)])
        d.box(x, 332, 200, 48, "variables", "one", "the same bits on every replica")
    return d


def memory() -> Drawing:
    """How gradients of two replicas get to their owners, on one node."""
    d = Drawing(760, 430, "Shared memory and the staging buffer of a node with two replicas")
    for replica, x in enumerate((30, 510)):
        kind, other = (("one", "two"), ("two", "one"))[replica]
        d.text(x + 110, 24, f"replica {replica}: private memory", "bold")
        own, theirs = ("first half", "second half") if replica == 0 else ("second half", "first half")
        halves = [(own, kind, "its own shard"), (theirs, other, f"shard of replica {1 - replica}")]
        for name, fill, more in sorted(halves, key=lambda half: half[0]):
            y = 44 if name == "first half" else 100
            d.box(x, y, 220, 52, f"gradients, {name}", fill, more)
    d.text(380, 24, "staging buffer", "bold")
    d.box(285, 72, 90, 52, "", "one")
    d.text(330, 98, "of replica 1", "small")
    d.box(385, 72, 90, 52, "", "two")
    d.text(430, 98, "of replica 0", "small")
    d.line([(510, 58), (330, 58), (330, 70)])
    d.line([(250, 140), (430, 140), (430, 126)])
    d.box(190, 230, 140, 60, "replica 0", "one", "sum, clip, update")
    d.box(430, 230, 140, 60, "replica 1", "two", "sum, clip, update")
    d.line([(310, 124), (310, 228)])
    d.line([(450, 124), (450, 228)])
    d.line([(30, 70), (14, 70), (14, 260), (188, 260)])
    d.line([(730, 126), (746, 126), (746, 260), (572, 260)])
    d.box(130, 340, 250, 52, "parameters and slots", "one", "first half, written by replica 0")
    d.box(380, 340, 250, 52, "parameters and slots", "two", "second half, written by replica 1")
    d.line([(260, 290), (260, 338)])
    d.line([(500, 290), (500, 338)])
    d.text(380, 412, "shared memory: one copy a node, which every replica reads without a message", "faint")
    return d


def tree() -> Drawing:
    """The tree that fixes the order of a sum over eight replicas."""
    d = Drawing(760, 350, "The sum over eight replicas is one binary tree")
    names = [f"g{i}" for i in range(8)]
    xs = [60 + 91 * i for i in range(8)]
    y = 40
    for x, name in zip(xs, names, strict=True):
        d.box(x - 30, y, 60, 34, name, "one")
    for level, kind in enumerate(("three", "two", "four")):
        below = y + 76
        merged = [(xs[i] + xs[i + 1]) / 2 for i in range(0, len(xs), 2)]
        for i, x in enumerate(merged):
            for start in (xs[2 * i], xs[2 * i + 1]):
                d.line([(start, y + 34), (start, y + 54), (x, y + 54), (x, below)])
            first, last = i * 2 ** (level + 1), (i + 1) * 2 ** (level + 1) - 1
            words = f"g{first} + ... + g{last}" if level else f"g{first} + g{last}"
            d.box(x - 55, below, 110, 34, words, kind)
        xs, y = merged, below
    d.text(
        380,
        326,
        "one process of 8 replicas, two of 4, eight of 1: the same additions, so the same bits",
        "faint",
    )
    return d


def halving() -> Drawing:
    """Recursive halving and doubling between four nodes."""
    d = Drawing(760, 380, "Four nodes exchange a block by recursive halving and doubling")
    kinds = ("one", "two", "three", "four")
    held = (
        ("at first: its own sum of all four parts", ["0123"] * 4),
        ("round 1, distance 1: sends one half, adds the other", ["02", "13", "02", "13"]),
        ("round 2, distance 2: one part, summed over all nodes", ["0", "1", "2", "3"]),
        ("doubling: the totals go back the same way", ["0123"] * 4),
    )
    for node in range(4):
        d.text(100 + 105 * node, 22, f"node {node}", "bold")
    for row, (what, parts) in enumerate(held):
        y = 44 + 94 * row
        for node in range(4):
            x = 60 + 105 * node
            for part in range(4):
                kind = kinds[part] if str(part) in parts[node] else "card"
                d.box(x + 20 * part, y, 20, 40, kind=kind)
        for i, words in enumerate(what.split(": ")):
            d.text(490, y + 11 + 19 * i, words, "" if i == 0 else "small faint", "start")
        pairs = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ())[row] if row < 3 else ()
        for depth, (a, b) in enumerate(pairs):
            level = y + 52 + (14 * depth if row else 0)
            left, right = 100 + 105 * a, 100 + 105 * b
            d.line([(left, y + 42), (left, level), (right, level), (right, y + 42)], arrow=False)
    return d


#: Name, unit, and milliseconds: of the peer, then of distopt. From docs/explanation/performance.md.
_SPEED = (
    ("Sum and update 25 M parameters, Adam", "PyTorch: Gloo all-reduce, fused Adam", 89.5, 14.6),
    ("PyTorch MLP of 5.8 M parameters, batch 64", "DDP, fused Adam", 82.8, 48.9),
    ("JAX MLP of 5.8 M parameters, batch 64", "JAX + Gloo, optax", 164.0, 60.1),
)


def speed() -> Drawing:
    """Milliseconds a step, beside what others take."""
    d = Drawing(760, 330, "Milliseconds a step, two replicas on two cores")
    d.text(30, 24, "Milliseconds a step; two replicas on two cores; shorter is better", "bold", "start")
    scale = 420 / max(peer for _, _, peer, _ in _SPEED)
    for i, (what, peer_name, peer, ours) in enumerate(_SPEED):
        y = 48 + 92 * i
        d.text(30, y + 8, what, "", "start")
        bars = ((peer_name, peer, "box"), ("distopt", ours, "one"))
        for j, (name, value, kind) in enumerate(bars):
            top = y + 22 + 28 * j
            d.text(30, top + 12, name, "small faint", "start")
            d.box(262, top, scale * value, 22, kind=kind)
            d.text(270 + scale * value, top + 11, f"{value:g}", "small", "start")
    return d


FIGURES = {figure.__name__: figure for figure in (step, memory, tree, halving, speed)}
FIGURES |= straggler_figures.figures(FOLDER / "stragglers.json")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, figure in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(figure().svg())
