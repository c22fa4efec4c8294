"""What a process keeps outside of objects: as little as possible, and with a reason."""

import ast
from pathlib import Path

import distopt

ROOT = Path(distopt.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: All state of a process that is no object's: the line above each says why it has to be so.
PROCESS_STATE = {
    "autodiff/boxes.py": {"_numbers", "_run", "_trace_lock"},
    "autodiff/rules.py": {"_rules"},
    "checkpoint/files.py": {"_warned"},
    "checkpoint/lock.py": {"_held"},
    "checkpoint/preemption.py": {"_asked"},
    "comm/finalization.py": {"_state"},
    "comm/forks.py": {"forks"},
    "core/custom_objects.py": {"_known"},
    "core/dispatch.py": {"_stack"},
    "core/floatx.py": {"_now"},
    "core/placement.py": {"_installed"},
    "distribute/frames.py": {"_frames", "_process"},
    "distribute/lifetime.py": {"_program"},
    "keras/layers/logits.py": {"_known"},
    "keras/layers/tracking.py": {"_kinds", "_version"},
    "keras/losses/loss.py": {"_fused_sums"},
    "keras/metrics/counting.py": {"_quiet"},
    "optimizers/config.py": {"_names_given"},
    "testing/streams.py": {"replica"},
}
#: What makes objects that are there to change.
MAKERS = {
    *("ContextVar", "Counter", "Event", "Lock", "OrderedDict", "RLock", "WeakKeyDictionary", "WeakSet"),
    *("WeakValueDictionary", "bytearray", "count", "defaultdict", "deque", "dict", "list", "local", "set"),
}
#: Methods by which lists, dicts, sets and counters change.
CHANGES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop"),
    *("popitem", "remove", "setdefault", "subtract", "update"),
}


def root_of(node):
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def process_state(tree):
    """``name -> line`` of what stands at the top of a module and is changed by its functions."""
    changed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            changed |= set(node.names)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            changed.add(root_of(node))
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES
        ):
            changed.add(root_of(node.func.value))
    makers = MAKERS | {n.name for n in tree.body if isinstance(n, ast.ClassDef) and n.name.startswith("_")}
    found = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        made = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).rpartition(".")[2] in makers
        for name in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(name, ast.Name) and (made or name.id in changed):
                found[name.id] = node.lineno
    return found


def test_process_state_is_known_and_explained():
    found = {str(file.relative_to(ROOT)): process_state(ast.parse(file.read_text())) for file in FILES}
    assert {file: set(names) for file, names in found.items() if names} == PROCESS_STATE
    silent = [
        f"{file}:{line}: {name}"
        for file, names in found.items()
        for name, line in names.items()
        if not (ROOT / file).read_text().splitlines()[line - 2].startswith("#")
    ]
    assert not silent


def test_launch_keeps_no_process_state():
    files = sorted((ROOT.parent / "launch").rglob("*.py"))
    assert not {str(file): found for file in files if (found := process_state(ast.parse(file.read_text())))}
